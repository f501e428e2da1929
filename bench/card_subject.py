"""What runs under the memory checker: small networks in every way, or a mistake. ``bench/card_sections.py`` starts it."""

from __future__ import annotations

import sys
import time

import numpy as np

from bench.card_sections import RECORDINGS, Job, judged
from npresnet.model import assemble
from npresnet.verify.rows import layers_against_recording, plan_against_recording


def mistake() -> None:
    """Write past the end of an array."""
    from numba import cuda

    import npresnet.kernels.cuda  # noqa: F401 (what it takes to compile with a new NumPy is done there)

    @cuda.jit
    def beyond(array, distance):
        array[cuda.grid(1) + distance] = 1.0

    array = cuda.to_device(np.zeros(256, np.float32))
    beyond[1, 32](array, 1 << 26)
    cuda.synchronize()


def networks(job: Job) -> None:
    """Raises Failed where a layer disagrees with TensorFlow's."""
    job.begin()
    for subject in job.scale.checked:
        recording, found = subject.recording(RECORDINGS), subject.found()
        outputs = None if job.scale.features is None else [found.graph.features[name] for name in job.scale.features]
        judged([*layers_against_recording(assemble(found, "cuda", "im2col"), recording, outputs)], "fp32")
        for precision in job.precisions:
            judged(plan_against_recording(assemble(found, "cuda", precision=precision), recording, outputs), precision)


if __name__ == "__main__":
    if sys.argv[1] == "mistake":
        mistake()
    else:
        networks(Job(sys.argv[1], None, time.monotonic() + 600))
