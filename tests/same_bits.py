"""Whether this checkout computes the same bits as another one, such as the last commit before a change of structure:

    git worktree add ../before COMMIT
    python -m tests.same_bits ../before

The networks are those of ``tests/data`` and a thin one of every family and block kind, with and without a classifier. Each
checkout computes in a process of its own, by the public face alone, so that it does not matter what either calls its modules.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

COMPUTE = """
import hashlib, json, sys
from pathlib import Path
import numpy as np
import npresnet

def sha(array):
    array = np.ascontiguousarray(array)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.tobytes()).hexdigest()[:16]

folder = Path(sys.argv[1])
found = {}
for path in sorted(folder.glob("*.keras")) + sorted(folder.glob("*.h5")):
    for images in sorted(folder.glob(f"{path.stem}.*.npy")):
        batch = np.load(images)
        for algorithm in ("auto", "direct", "im2col"):
            for threads in (1, 2):
                net = npresnet.load(path, algorithm=algorithm, threads=threads)
                key = f"{path.name} {'x'.join(map(str, batch.shape))} {algorithm} {threads}"
                maps = net(batch)
                found.update({f"{key} C{i}": sha(array) for i, array in enumerate(maps, 1) if array is not None})
                if net.graph.classifier:
                    found[f"{key} predict"] = sha(net.predict(batch))
                some = net.layers[1::5]  # where a layer is asked for, the steps around it are others
                found.update({f"{key} {name}": sha(array) for name, array in net(batch, outputs=some).items()})
                if algorithm == "im2col" and threads == 2:
                    found.update({f"{key} layer {step.name}": sha(step.array) for step in net.trace(batch)})
    print(path.name, file=sys.stderr)
print(json.dumps(found))
"""


def write_networks(folder: Path) -> None:
    """Weight files, and the images for them: STEM.NUMBER.npy."""
    import numpy as np

    from npresnet.network.architecture import Architecture
    from npresnet.network.building import build_graph
    from npresnet.network.families import FAMILIES
    from npresnet.network.seeded import random_weights, write_keras_file
    from npresnet.verify.subjects import SUBJECTS

    random = np.random.default_rng(7)

    def images(stem: str, *shape: int) -> None:
        number = len(list(folder.glob(f"{stem}.*.npy")))
        np.save(folder / f"{stem}.{number}.npy", (random.standard_normal(shape) * 50).astype(np.float32))

    for subject in SUBJECTS:
        found = subject.found()
        write_keras_file(folder / f"recorded-{subject}.h5", found.graph, found.weights)
        np.save(folder / f"recorded-{subject}.0.npy", subject.images())
    for family in FAMILIES.values():
        for depth in {min(family.depths), min((d for d in family.depths if d > 34), default=min(family.depths))}:
            for classes in (None, 5):
                graph = build_graph(Architecture.standard(family, depth, width=32, classes=classes))
                stem = f"{family.name.replace(' ', '-')}-{depth}-{classes}"
                write_keras_file(folder / f"{stem}.h5", graph, random_weights(graph, seed=depth))
                images(stem, 1, 97, 64, 3)
                if classes is None:
                    images(stem, 2, 129, 161, 3)
    digits = ROOT / "tests" / "data" / "digits.keras"
    (folder / "digits.keras").write_bytes(digits.read_bytes())
    images("digits", 3, 32, 32, 3)
    images("digits", 1, 101, 96, 3)


def compute(checkout: Path, folder: Path) -> dict[str, str]:
    """{network, shape, algorithm, threads, layer: hash of the output} as ``checkout`` computes it."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", COMPUTE, str(folder)], cwd=checkout, env=environment, stdout=subprocess.PIPE, check=True
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument(
        "--folder", type=Path, help="keep the networks and the hashes there, and use those that are there"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not list(folder.glob("*.h5")):
            folder.mkdir(parents=True, exist_ok=True)
            write_networks(folder)
        kept = folder / "other.json"
        if not kept.exists():
            kept.write_text(json.dumps(compute(arguments.other.resolve(), folder)))
        other, ours = json.loads(kept.read_text()), compute(ROOT, folder)
    different = sorted(key for key in other.keys() | ours.keys() if other.get(key) != ours.get(key))
    print(f"{len(ours):,} arrays of {len({key.split()[0] for key in ours})} networks; {len(different)} differ")
    for key in different[:50]:
        print(f"  {key}: {other.get(key)} there, {ours.get(key)} here")
    raise SystemExit(bool(different))


if __name__ == "__main__":
    main()
