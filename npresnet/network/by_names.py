"""The row of the table whose names of layers a file has.

A family is known by the first layers of its networks, its depth by the blocks that are there. Families that name those alike
are told apart by what their rows say: biases, groups, gates, or a layer without weights (``Family.signs``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from statistics import mode

from ..errors import WeightsError
from ..files.stored import StoredFile
from .architecture import Architecture, Request
from .families import FAMILIES
from .family import Family, block_kind
from .found import Notes, StoredLayers
from .measured import blocks_found, convolutions, depthwise, measured

__all__ = ["candidates", "cut_from", "depth_fits", "first_layers_fit", "recognised"]


def candidates(request: Request | None) -> tuple[tuple[Family, int], ...]:
    if request is not None:
        return request.candidates
    return tuple((family, depth) for family in FAMILIES.values() for depth in family.depths)


def recognised(
    file: StoredFile, request: Request | None, notes: Notes, variant: Architecture | None
) -> tuple[Architecture, StoredLayers]:
    """The architecture whose names and shapes the file holds, and its layers, renamed where they had no names.

    variant  the one that was found by counting layers, where the file has no names
    """
    layers = file.layers
    insisted = request is not None and request.package is not None
    families = list(dict.fromkeys(family for family, _ in candidates(request)))
    if variant is not None:
        families = [variant.family]
    every: list[tuple[Family, int]] = []
    matching: list[tuple[Family, int]] = []
    for whole in (True, False) if file.config is None else (True,):  # a description says itself where the network ends
        fitting = [f for f in families if first_layers_fit(layers, f, strict=not insisted, whole=whole)]
        # a family whose tell-tale layers include another's is the more special one
        most = max((len(_tell_tales(family, whole=whole)) for family in fitting), default=0)
        fitting = [family for family in fitting if len(_tell_tales(family, whole=whole)) == most]
        every = every or [(family, depth) for family in fitting for depth in family.depths]
        tried = [(family, depth) for family in fitting for depth in family.depths]
        matching += [pair for pair in tried if pair not in matching and depth_fits(layers, *pair, whole=whole)]
        if any(blocks_found(layers, *pair)[3] for pair in matching):
            break
    if not every:
        raise WeightsError(_no_resnet(file, request))
    if not matching:
        raise WeightsError(_no_depth(layers, every))
    if request is not None:  # the beginnings of two depths may be the same
        matching.sort(key=lambda pair: pair not in request.candidates)
    family, depth = _told_apart(file, matching, notes)
    if request is not None and (family, depth) not in request.candidates:
        raise WeightsError(
            f"the file holds {Architecture(family, depth).name} ({_stage_counts(layers, family, depth)} blocks in stages "
            f"2 to 5), but {request.text!r} was asked for; leave the architecture out, or give that file"
        )
    notes.reasons.append(f"layers {_tell_tales(family)[0]!r} and {family.main_conv(depth, 2, 0)!r}: {family.title}")
    if any(other.bias != family.bias and other.groups == family.groups for other in _namesakes(family)):
        notes.reasons.append(f"convolutions {'with' if family.bias == 'all' else 'without'} bias: {family.name}")
    notes.reasons.append(f"{_stage_counts(layers, family, depth)} blocks in stages 2 to 5: ResNet-{depth}")
    if family.squeeze:
        layers = _name_gates(family, depth, layers)
    asked = request.options if request else {}
    architecture = measured(replace(file, layers=layers), family, depth, notes, variant, asked)
    return replace(architecture, **asked), layers


def cut_from(file: StoredFile) -> Family | None:
    """The family of whose networks the file holds the beginning, as far as the first block, or None."""
    fitting = [
        family for family in FAMILIES.values() if first_layers_fit(file.layers, family, strict=True, whole=False)
    ]
    if not fitting:
        return None
    most = max(len(_tell_tales(family, whole=False)) for family in fitting)
    fitting = [family for family in fitting if len(_tell_tales(family, whole=False)) == most]
    return _told_apart(file, [(family, family.depths[0]) for family in fitting], Notes())[0]


def _told_apart(file: StoredFile, matching: Sequence[tuple[Family, int]], notes: Notes) -> tuple[Family, int]:
    """Of families that name their layers with weights alike the one whose sign is there, the surest sign first; among equals,
    and without a sign, the first row."""
    by_family: dict[str, tuple[Family, int]] = {}
    for family, depth in matching:
        by_family.setdefault(family.name, (family, depth))
    first, *others = by_family.values()
    if not others:
        return first
    listed = dict.fromkeys([*file.layer_names, *file.layers])
    for signs in zip_longest(*(family.signs for family, _ in (first, *others))):
        for (family, depth), sign in zip((first, *others), signs, strict=True):
            found = next((name for name in listed if sign and re.fullmatch(sign, name)), None)
            if found is None:
                continue
            if family is not first[0]:
                notes.reasons.append(f"layer {found!r}: {family.title}, not {first[0].title}")
            return family, depth
    for family, depth in others:
        notes.assumed.append(
            f"{first[0].title} is assumed, but {family.title} has the same names of layers; if it is that, say "
            f"architecture={Architecture(family, depth).name!r}"
        )
    return first


def _namesakes(family: Family) -> list[Family]:
    """Other families whose layers with weights have the same names: something else must tell."""
    names = family.names.conv, _tell_tales(family)
    every = (other for other in FAMILIES.values() if other.name != family.name)
    return [other for other in every if (other.names.conv, _tell_tales(other)) == names]


def _tell_tales(family: Family, whole: bool = True) -> list[str]:
    """Layers with weights by which a family is known, those of the first block included; the last one's only if ``whole``."""
    names, depth = family.names, family.depths[0]
    stems = 3 if family.deep_stem else 1
    found = [names.stem_conv.format(i=i) for i in range(1, stems + 1)]
    found += [names.stem_bn.format(i=stems)] if family.stem_norm else []
    found += [name for name in (names.input_bn, names.stem_scale) if name]
    if family.order == "pre":
        found += [names.pre_bn.format(**family.place(depth, 2, 0)), *([names.final_bn] if whole else [])]
    return found


def first_layers_fit(layers: StoredLayers, family: Family, *, strict: bool, whole: bool = True) -> bool:
    """Whether the family's tell-tale layers are there; ``strict``: and kernels and biases are of its kind; ``whole``: and the
    network may go on to its end."""
    if not all(name in layers for name in _tell_tales(family, whole)) or not any(
        blocks_found(layers, family, family.depths[0])
    ):
        return False
    if (depthwise(layers, family) is not None) != (family.groups > 1):
        return False
    if family.names.squeeze:  # one of those whose networks have gates or not, two convolutions in each block
        every = family.blocks.values() if whole else [blocks_found(layers, family, family.depths[0])]
        if (len(_gates(layers, family)) in [2 * sum(blocks) for blocks in every]) != bool(family.squeeze):
            return False
    if not strict:
        return True
    return mode([bias for _, bias in convolutions(layers, layers)] or [family.bias == "all"]) == (family.bias == "all")


def _gates(layers: StoredLayers, family: Family) -> list[str]:
    """The convolutions of squeeze-and-excitation: 1x1 convolutions that Keras named by a counter, in its order; or, where
    layers were counted and so named before, those of the family's own names."""
    numbered = {
        name: int(found[1] or 0)
        for name, tensors in layers.items()
        if (found := re.fullmatch(r"conv2d(?:_(\d+))?", name))
        and "kernel" in tensors
        and tensors["kernel"].shape[:2] == (1, 1)
    }
    deepest = family.depths[-1]  # its blocks include those of the others
    named = [name for name in _gate_names(family, deepest) if name in layers]
    return sorted(numbered, key=numbered.__getitem__) or named


def _gate_names(family: Family, depth: int) -> list[str]:
    """The graph's names of the convolutions of squeeze-and-excitation, two per block, in Keras's order."""
    return [
        family.names.squeeze.format(**family.place(depth, stage, index), part=part)
        for stage, blocks in enumerate(family.blocks[depth], 2)
        for index in range(blocks)
        for part in ("reduce", "expand")
    ]


def _name_gates(family: Family, depth: int, layers: StoredLayers) -> StoredLayers:
    """Give the convolutions of squeeze-and-excitation, which Keras counts through, the graph's names."""
    names = dict(zip(_gates(layers, family), _gate_names(family, depth), strict=False))
    return {names.get(name, name): tensors for name, tensors in layers.items()}


def depth_fits(layers: StoredLayers, family: Family, depth: int, *, whole: bool = True) -> bool:
    """Whether exactly this depth's blocks are there, of the right kind, with or without stage 5 where that may be; not
    ``whole``: those of its first stages."""
    found, wanted = blocks_found(layers, family, depth), family.blocks[depth]
    thirds = (family.main_conv(depth, stage, 0, branch=2) for stage in range(2, 6))
    if any(name in layers for name in thirds) != (block_kind(depth) == "bottleneck"):
        return False
    shortest = 1 if not whole else 3 if family.optional_stage5 else 4
    return any(found == (*wanted[:stages], *[0] * (4 - stages)) for stages in range(shortest, 5))


def _stage_counts(layers: StoredLayers, family: Family, depth: int) -> str:
    return "/".join(map(str, blocks_found(layers, family, depth)))


def _no_resnet(file: StoredFile, request: Request | None) -> str:
    for family in FAMILIES.values():
        if request and first_layers_fit(file.layers, family, strict=True):
            return (
                f"the file names its layers as {family.name} does, but {request.text!r} was asked for; leave the "
                "architecture out, or give that file"
            )
    names = list(file.layers)[:6]
    shown = ", ".join(map(repr, names)) + (", ..." if len(file.layers) > len(names) else "")
    return (
        f"no ResNet is recognised among the {len(file.layers)} layers with weights ({shown or 'none'}), which are not named "
        f"as in any family that is known ({', '.join(FAMILIES)}); the file holds another network, or its layers were renamed"
    )


def _no_depth(layers: StoredLayers, candidates: Sequence[tuple[Family, int]]) -> str:
    """No depth has exactly the blocks that are there: the file is incomplete, or the network is a variant."""
    family, depth = max(candidates, key=lambda c: sum(blocks_found(layers, *c)))
    known = "; ".join(f"ResNet-{d}: {'/'.join(map(str, blocks))}" for d, blocks in family.blocks.items())
    return (
        f"the file names its layers as {family.name} does, but holds {_stage_counts(layers, family, depth)} blocks in "
        f"stages 2 to 5, which is no known depth ({known}); the file is incomplete, or the network was changed"
    )
