"""What `npresnet extract` reaches of the network alone: JPEGs of several sizes, from the file to the committed row.

    python -m bench.bench_extract [--network keras.applications/resnet50] [--repeats 3]

The network alone is ``net(batch)`` on images that are prepared and in memory, in the batches that ``extract`` uses, for as many
images; it is timed before and after each run of ``extract``, whose time is that of the whole call: the folder is searched, a job
is begun, decoders are started, pictures decoded and resized, shards written and synced, everything read once more for its hash.
Beside that is what processor time alone would permit: that of the network over that of everything, decoders included.
The pictures are parts of the photograph that comes with the package, each another.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import npresnet
from bench.store import save
from npresnet.data.photograph import photograph
from npresnet.extraction.decoders import usual_batch
from npresnet.extraction.run import extract
from npresnet.kernels.threads import available_threads
from npresnet.peers.case import full_name, seeded_file
from npresnet.peers.machine import describe

SIZES = ("500x375:500", "1920x1080:200", "4000x3000:50")


def pictures(folder: Path, width: int, height: int, count: int) -> int:
    """Write ``count`` JPEGs, some twenty of them different; the mean of their bytes."""
    from PIL import Image

    folder.mkdir()
    with Image.open(photograph()) as image:
        whole = image.convert("RGB")
    random = np.random.default_rng(0)
    data = []
    for _ in range(min(count, 20)):
        share = random.uniform(0.5, 1.0)
        w, h = int(whole.width * share), int(whole.height * share)
        left, top = int(random.integers(whole.width - w + 1)), int(random.integers(whole.height - h + 1))
        stream = io.BytesIO()
        part = whole.crop((left, top, left + w, top + h)).resize((width, height), Image.Resampling.BICUBIC)
        part.save(stream, "JPEG", quality=90)
        data.append(stream.getvalue())
    for number in range(count):
        (folder / f"{number:05d}.jpg").write_bytes(data[number % len(data)])
    return round(statistics.mean(map(len, data)))


class Seconds(NamedTuple):
    """On the clock, and of processors: this process's and its children's that have ended."""

    wall: float
    cpu: float

    @staticmethod
    def now() -> Seconds:
        return Seconds(time.perf_counter(), sum(os.times()[:4]))

    def since(self, start: Seconds, share: float = 1.0) -> Seconds:
        return Seconds((self.wall - start.wall) / share, (self.cpu - start.cpu) / share)


def alone(net: npresnet.ResNet, images: np.ndarray, count: int) -> Seconds:
    """Seconds of the network alone for ``count`` images."""
    names = [net.graph.features["C5"]]
    net(images, outputs=names)
    start = Seconds.now()
    for _ in range(count // len(images)):
        net(images, outputs=names)
    return Seconds.now().since(start, count // len(images) * len(images) / count)


def measure(net: npresnet.ResNet, folder: Path, text: str, repeats: int) -> dict[str, Any]:
    """One size of pictures."""
    size, _, count_text = text.partition(":")
    width, height = map(int, size.split("x"))
    count = int(count_text)
    photos = folder / size
    found: dict[str, Any] = {"size": size, "count": count, "bytes": pictures(photos, width, height, count)}
    first = sorted(photos.iterdir())[:1]
    batch = usual_batch(net.prepare(str(first[0])).shape[1:])
    images = net.prepare([str(path) for path in sorted(photos.iterdir())[:batch]])
    ways = {"extract": False, "extract --fast-decode": True} if width > 1000 else {"extract": False}
    samples: dict[str, list[Seconds]] = {name: [] for name in ("alone", *ways)}
    for repeat in range(repeats):
        samples["alone"].append(alone(net, images, count))
        for name, fast in ways.items():
            out = folder / f"{size}-{fast}-{repeat}"
            start = Seconds.now()
            summary = extract(photos, net, out, size="224x224", fast_decode=fast)
            samples[name].append(Seconds.now().since(start))
            assert summary.rows == count
            samples["alone"].append(alone(net, images, count))
    found["samples"] = {name: [each.wall for each in seconds] for name, seconds in samples.items()}
    found["per_second"] = {name: count / statistics.median(seconds) for name, seconds in found["samples"].items()}
    found["cpu_ms"] = {name: statistics.median(s.cpu for s in some) / count * 1e3 for name, some in samples.items()}
    if len(ways) > 1:
        exact, fast_ones = (np.asarray(npresnet.open_features(folder / f"{size}-{f}-0").array) for f in (False, True))
        found["fast_difference"] = float(np.linalg.norm(exact - fast_ones) / np.linalg.norm(exact))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="keras.applications/resnet50")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--sizes", nargs="*", default=SIZES, help="WIDTHxHEIGHT:COUNT of the pictures")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, help="folder to save in; default: bench/results")
    arguments = parser.parse_args()
    network, threads = full_name(arguments.network), arguments.threads
    print(f"{describe()}\n{network}, 224x224, {threads} threads")
    print(f"{'JPEGs':<14}{'':<24}{'images/s':>9}{'of alone':>9}{'CPU ms':>8}{'by that':>8}")
    with tempfile.TemporaryDirectory(prefix="npresnet-bench-") as name:
        net = npresnet.load(seeded_file(network, Path(name)), threads=threads)
        points = []
        for text in arguments.sizes:
            point = measure(net, Path(name), text, arguments.repeats)
            for way, speed in point["per_second"].items():
                share, cpu = speed / point["per_second"]["alone"], point["cpu_ms"]
                by_cpu = f"{cpu[way]:>8.1f}{cpu['alone'] / cpu[way]:>8.0%}"
                print(f"{point['size']:<14}{way:<24}{speed:>9.1f}{share:>9.0%}{by_cpu}")
            points.append(point)
    result = {"network": network, "threads": threads, "points": points}
    path = save("extract", f"{network.replace('/', '-')}-t{threads}", result, arguments.results)
    print(f"saved in {path}")


if __name__ == "__main__":
    main()
