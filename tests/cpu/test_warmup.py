"""After ``warmup`` no network compiles anything: neither what families have, nor any operator alone."""

from __future__ import annotations

CODE = """
import numpy as np
from npresnet.cpu.warmup import warmup
from npresnet.kernels import machine_code, numba_cache
from npresnet.kernels.jit import Native

asked = []
load, load_overload = machine_code.load, numba_cache._Cache.load_overload

def noted(name):
    asked.append(name)
    return load(name)

def noted_overload(self, sig, target_context):
    asked.append((self._function.__qualname__, str(sig)))
    return load_overload(self, sig, target_context)

machine_code.load, numba_cache._Cache.load_overload = noted, noted_overload
warmup()
assert len(asked) > 60, asked
assert all(machine_code.load(name) for name in {*asked} if isinstance(name, str)), "some are not kept"
assert len({name for name in asked if isinstance(name, str)}) == len(Native.declared), "two have one name"
asked.clear()

from npresnet.cpu import by_layer
from npresnet.cpu.runner import Planner
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph
from npresnet.network.families import FAMILIES
from npresnet.network.graph import Graph, Layer
from npresnet.network.operators import Conv2D, Input
from npresnet.network.seeded import random_weights
from tests.network.test_operators import COMPUTED, graph_of, weights_of

def run(name, graph, weights, side=40):
    outputs = (graph.layers[-1].name,)
    images = np.zeros((3, side, side, graph.channels), np.float32)
    for threads in (1, 2):
        for winograd in (True, False):
            Planner(graph, weights, threads).run(images, outputs, winograd)
        for shown in (images, images.copy(), np.frombuffer(images.tobytes(), np.float32).reshape(images.shape)):
            for _ in by_layer.run(graph, weights, shown, outputs, algorithm="im2col", threads=threads):
                pass
    if asked:
        print(name, asked)
    asked.clear()

for family, depth, width in (
    ("matterport", 50, 8), ("keras.applications", 101, 8), ("keras.applications V2", 50, 8),
    ("keras.applications ResNeXt", 50, 64), ("image-classifiers SE", 18, 8), ("keras-hub vd", 50, 8),
):
    graph = build_graph(Architecture.standard(FAMILIES[family], depth, width=width))
    run(family, graph, random_weights(graph))
for kind in COMPUTED:
    run(kind.__name__, graph_of(kind), weights_of(graph_of(kind)), 8)
for groups in (1, 2, 4):  # the last is depthwise
    for stride in ((1, 1), (2, 2)):
        for kernel, padding in (((1, 1), "valid"), ((3, 3), "same"), ((3, 3), (0, 1, 2, 0)), ((5, 5), "same")):
            conv = Conv2D(4, 8, kernel, stride=stride, padding=padding, groups=groups, bias=groups == 1)
            graph = Graph((Layer("image", Input(4)), Layer("conv", conv, ("image",))), {})
            run(conv, graph, weights_of(graph))
"""


def test_nothing_is_compiled_after_it(run_python):
    assert run_python(CODE) == ""
