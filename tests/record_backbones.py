"""Record what TensorFlow computes in every layer of the networks in ``npresnet/verify/subjects.py``.

    python -m tests.record_backbones

Writes ``tests/data/recordings/*.npz``; to be run again when the seeded weights change, or the list of networks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from npresnet.model import assemble
from npresnet.network.seeded import write_keras_file
from npresnet.verify.recording import Recording
from npresnet.verify.rows import keras_model, layers_against_recording
from npresnet.verify.subjects import SUBJECTS, Subject

from .support.agreement import pairs
from .support.recordings import FOLDER, SAMPLES, layer_names


def record(subject: Subject) -> None:
    """Write the recording of one network. Raises AssertionError where TensorFlow and npresnet do not agree to begin with."""
    import tensorflow as tf

    from npresnet.verify import oracle

    found = subject.found()
    net = assemble(found)
    by = f"TensorFlow {tf.__version__} on a CPU"
    recording = Recording(Path(str(subject)), subject.images(), by, tensors=found.weights, samples=SAMPLES)
    model = keras_model(subject.architecture)
    with tempfile.TemporaryDirectory(prefix="npresnet-record-") as folder:
        oracle.load_file(model, write_keras_file(Path(folder, "weights.h5"), found.graph, found.weights))
    ours = pairs(net, model.operations)
    for name, array in oracle.activations(model, recording.images):
        if name in ours and ours[name] != net.layers[0]:
            recording.add(ours[name], array)
    rows = list(layers_against_recording(net, recording))
    wrong = [f"{row.name}: {row.difference}" for row in rows if not row.agrees]
    assert not wrong, f"{subject}: " + "; ".join(wrong)
    assert {*recording.layers} == {*layer_names(net)}, subject
    path = subject.path(FOLDER)
    recording.save(path)
    worst = max(row.difference.relative for row in rows)
    print(f"{subject}: {len(rows)} layers, {path.stat().st_size:,} bytes, largest relative difference {worst:.1e}")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in SUBJECTS:
        record(each)
