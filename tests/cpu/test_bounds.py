"""The check of a plan's bounds: silent about every plan, loud about one that is wrong by a pixel, and complete."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from npresnet import kernels
from npresnet.cpu.bounds import check_bounds, touched
from npresnet.cpu.building import InMemory
from npresnet.cpu.by_plan import Plan
from npresnet.cpu.runner import Planner
from npresnet.kernels.steps.records import Map, Step, Table
from npresnet.network.architecture import Architecture
from npresnet.network.building import build_graph

from .. import fuzz_configs
from ..network.test_operators import COMPUTED, graph_of, weights_of

NAMES = (
    "matterport/resnet50",
    "keras.applications/resnet50v2",
    "keras.applications/resnext50",
    "image-classifiers/seresnet18",
)


def kinds(kind: type[Step] = Step) -> list[type[Step]]:
    """Those of the package; tests have some of their own."""
    found = [one for child in kind.__subclasses__() for one in (child, *kinds(child))]
    return [one for one in found if one.__module__.startswith("npresnet")]


def test_every_kind_of_step_is_known() -> None:
    """A new one that is not would be an error in every fuzz; here it is told by name."""
    for name in kernels.__all__:  # whatever of them other tests have imported
        getattr(kernels, name)
    for kind in kinds():
        with suppress(AttributeError):  # it is known, but this one has no fields
            touched(object.__new__(kind))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(64, 64), (61, 50), (224, 224)])
def test_networks(name: str, size: tuple[int, int]) -> None:
    graph = build_graph(Architecture.named(name))
    planner = Planner(graph, {}, 2)
    for outputs in (tuple(graph.features.values()), tuple(layer.name for layer in graph.layers if layer.inputs)):
        for winograd in (True, False):
            check_bounds(planner.plan((2, *size), outputs, winograd))


def test_a_map_that_is_gone_is_found() -> None:
    """Where a block's result is written over what is added to it, and somebody wants that later."""
    graph = build_graph(Architecture.named("matterport/resnet50"))
    plan = Planner(graph, {}, 2).plan((1, 96, 64), ("res5c_out",), True)
    over = [index for index, step in enumerate(plan.steps) if step.output.endswith("_out")]
    assert len(over) > 12
    for index in over[:-1]:
        steps = list(plan.steps)
        later = steps[index + 1]
        steps[index + 1] = replace(
            later, inputs=(*steps[index].inputs, *later.inputs[1:])
        )  # as if it were to read what was
        with pytest.raises(AssertionError):
            check_bounds(replace(plan, steps=tuple(steps)))


@pytest.mark.parametrize("kind", COMPUTED, ids=lambda kind: kind.__name__)
def test_operators(kind: Any) -> None:
    graph = graph_of(kind)
    assert graph is not None
    check_bounds(Planner(graph, weights_of(graph), 2).plan((3, 8, 8), ("layer",), True))


def changed(record: Any, change: Any) -> Any:
    """A record with each map in it, one after another, changed: the first that is."""
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Map) and value.pitch:
            yield replace(record, **{field.name: change(value)})
        elif is_dataclass(value) and not isinstance(value, Map | InMemory):
            yield from (replace(record, **{field.name: one}) for one in changed(value, change))


def test_a_pixel_too_many_is_found() -> None:
    """Each map of each step, a little larger, further back or with other channels, is seen."""
    graph = build_graph(Architecture.named("matterport/resnet50"))
    plan = Planner(graph, {}, 2).plan((1, 96, 64), tuple(graph.features.values()), True)
    changes = [
        lambda one: replace(one, pitch=one.pitch + 4096),  # more than a buffer is rounded up by
        lambda one: replace(one, address=replace(one.address, offset=one.address.offset - 4)),
        lambda one: replace(one, channels=one.channels + 1 + (one.pitch - 4 * one.channels) // 4),
    ]
    count = 0
    for index, record in enumerate(plan.records):
        for change in changes:
            for wrong in changed(record, change):
                records = [*plan.records[:index], wrong, *plan.records[index + 1 :]]
                with pytest.raises(AssertionError):
                    check_bounds(with_records(plan, records))
                count += 1
    assert count > 300


def with_records(plan: Plan, records: list[Step]) -> Plan:
    table = object.__new__(Table)
    table.steps = records
    return replace(plan, _table=table)


def test_fuzz() -> None:
    report = fuzz_configs.run_all(seed=1, start=0, mutants=2_500)
    assert not report.findings
    assert sum(report.outcomes.values()) == 2_500
    assert min(report.outcomes[outcome] for outcome in ("refused", "nothing to run", "planned", "run")) > 40
