"""A step of a plan as people see it, whatever the device: which layers it computes, how, and how long that took."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..network.operators import Operator, Shape
from .fusion import Node
from .times import StepTime

__all__ = ["PlanStep", "algorithms", "step_times"]


@dataclass(frozen=True)
class PlanStep:
    """One step: the layers it stands for, what it reads and writes, and how.

    layers      names of the graph's layers that it computes; the last is the name of its output
    algorithm   on the CPU multiply, im2col, columns, F(4x4,3x3), F(2x2,3x3) (these perhaps with "V" behind: only the transformed
                patches), F(3x3,4x4), grouped, F(4,3) (grouped, Winograd's along rows), maxpool, avgpool, affine, mean, maximum,
                join, activation, softmax, pad, crop, upsample, gather (of a transposed convolution's taps), copy;
                on a card the tile and the split of a convolution ("64x32 / 2"), or one of such names
    inputs      names of what it reads: the data, the second of two that are joined, and the residual if there is one
    shape       of its output, without the batch
    leader      the layer that gives the step its algorithm; the others come before or after it at no cost. Empty for a step
                of the plan's own
    flop        multiplications and additions of one image, by the definition of its layers, whatever the algorithm
    activation  what the sums go through, if anything
    """

    layers: tuple[str, ...]
    algorithm: str
    inputs: tuple[str, ...]
    shape: Shape
    leader: str = ""
    flop: int = 0
    activation: Operator | None = None

    @classmethod
    def of(cls, node: Node, algorithm: str, shapes: Mapping[str, Shape]) -> PlanStep:
        """The step that computes a whole node."""
        shape, flop = shapes[node.output], node.flop(shapes)
        return cls(node.layers, algorithm, node.inputs, shape, node.leader, flop, node.activation)

    @property
    def output(self) -> str:
        """The layer whose output it makes."""
        return self.layers[-1]

    def __str__(self) -> str:
        joined = {"product": " * ", "join": " with "}.get(self.algorithm)
        signs = (joined, " + ") if joined else (" + ",)
        more = "".join(sign + name for sign, name in zip(signs, self.inputs[1:], strict=False))
        shape = "x".join(map(str, self.shape))
        end = f", {type(self.activation).__name__}" if self.activation else ""
        return f"{self.output:<24} {shape:<14} {self.algorithm:<12} of {self.inputs[0]}{more}{end}"


def algorithms(steps: Iterable[PlanStep], layers: Container[str]) -> dict[str, str]:
    """{layer: how it is computed} of those in ``layers``: by its step's algorithm, or "in" the layer that leads the step."""
    return {
        layer: step.algorithm if layer == step.leader else f"in {step.leader}"
        for step in steps
        for layer in step.layers
        if layer in layers  # not one of the plan's own
    }


def step_times(steps: Sequence[PlanStep], n: int, seconds: Iterable[float]) -> list[StepTime]:
    """What is known of each step after it ran on ``n`` images, taking so many ``seconds``."""
    return [
        StepTime(step.output, step.algorithm, (n, *step.shape), float(taken), n * step.flop)
        for step, taken in zip(steps, seconds, strict=True)
    ]
