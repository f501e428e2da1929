"""What the shapes of a file's tensors tell of a network whose family and depth are known, or tried: blocks, widths, groups,
stage 5, the classifier; and, from its list of layers, what else may differ within the family."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from statistics import mode

from ..files.stored import StoredFile, Tensor
from .architecture import Architecture
from .family import Border, Family, PoolBorder, block_kind
from .found import Notes, StoredLayers

__all__ = ["blocks_found", "convolutions", "depthwise", "measured"]

_MOST_BLOCKS = 64  # in one stage; ResNet-152 has 36


def blocks_found(layers: StoredLayers, family: Family, depth: int) -> tuple[int, ...]:
    """Blocks in stages 2 to 5, by the names that ``family`` gives at ``depth``: up to the last one of which any
    convolution is there, so that a hole in the middle is reported as missing layers."""
    return tuple(
        max(
            (
                index + 1
                for index in range(_MOST_BLOCKS)
                if any(family.main_conv(depth, stage, index, branch) in layers for branch in range(3))
            ),
            default=0,
        )
        for stage in range(2, 6)
    )


def measured(
    file: StoredFile,
    family: Family,
    depth: int,
    notes: Notes,
    variant: Architecture | None = None,
    settled: Container[str] = (),
) -> Architecture:
    """Fill in what the shapes tell: widths, groups, stage 5, classifier, and the stem's border where families waver.

    variant  what counting layers has told, where they have no names
    settled  fields of ``Architecture`` about which the user has said what to believe
    """
    layers, names = file.layers, family.names
    counts = blocks_found(layers, family, depth)
    there = 1 + sum(map(bool, counts))  # the last stage
    cut = 0 if there == 5 or (there == 4 and family.optional_stage5) else there
    standard = Architecture.standard(family, depth, stage5=there == 5, cut=cut)
    if cut:
        notes.doubts.append(
            f"of the stages 2 to 5 of {standard.name} the file has those up to {cut} alone, so feature maps end there; if that is "
            "not what was saved, fetch or save it again"
        )
    last = 1 if block_kind(depth) == "basic" else 2

    def width(stage: int, branch: int, default: int) -> int:
        blocks = range(family.blocks[depth][stage - 2])
        return _channels(layers, (family.main_conv(depth, stage, index, branch) for index in blocks), default)

    stem = names.stem_conv.format(i=3 if family.deep_stem else 1)
    found = replace(
        standard,
        stem_width=_channels(layers, [stem], standard.stem_width),
        channels=_channels_in(layers, names.stem_conv.format(i=1)),
        widths=tuple(
            (width(stage, 0, inner), width(stage, last, outer))
            for stage, (inner, outer) in zip(standard.stages, standard.widths, strict=True)
        ),
        inside=_scales_inside(file, family),
    )
    kernel = depthwise(layers, family)
    if kernel is not None:
        found = replace(found, groups=kernel.shape[2] // kernel.shape[3])
    if variant is not None:
        found = replace(found, stem=variant.stem, pool=variant.pool, inside=variant.inside)
    else:
        if family.stems and "stem" not in settled:
            found = replace(found, stem=_stem(file, family, depth, notes))
        if family.pools and "pool" not in settled:
            found = replace(found, pool=_pool(file, family, depth, notes))
    if found.stage5:
        for name in names.classifiers:
            kernel = layers.get(name, {}).get("kernel")
            if kernel is not None and len(kernel.shape) == 2 and kernel.shape[0] == found.widths[-1][1]:
                found = replace(found, classes=kernel.shape[1], classifier=name)
                notes.reasons.append(f"layer {name!r}: a classifier of {kernel.shape[1]} classes")
                break
    return found


_PADDED: Mapping[Border, str] = {"explicit": "padded by 3", "same": "with 'same' padding"}


def _stem(file: StoredFile, family: Family, depth: int, notes: Notes) -> Border:
    """The stem's border in a family of which there are files with a padding layer and without.

    A model's list of layers names those without weights too: that tells. Where the network is one layer of a bigger model,
    its own list is not in the file.
    """
    names, (usual, other) = family.names, family.stems
    if names.stem_pad in file.layer_names:
        return usual
    pads = (names.pad.format(**family.place(depth, 2, 0), branch=branch) for branch in names.branches)
    listed = next((pad for pad in pads if pad in file.layer_names), None)
    if listed is not None:
        notes.reasons.append(
            f"layer {listed!r} but no {names.stem_pad!r}: stem {_PADDED[other]}, as in {family.stems[other]}"
        )
        return other
    asked = f"{family.package}/{family.model.format(depth=depth)} stem={other}"
    notes.assumed.append(
        f"no padding layers are listed: stem {_PADDED[usual]}, as in {family.stems[usual]}, is assumed; if it was made by "
        f"{family.stems[other]}, say architecture={asked!r}"
    )
    return usual


def _pool(file: StoredFile, family: Family, depth: int, notes: Notes) -> PoolBorder | None:
    """The border of the pool in a family of which there are files with a padding layer and without: by the model's list of
    layers, where that names layers without weights; None for the family's own."""
    names, (usual, other) = family.names, family.pools
    if names.pool_pad in file.layer_names:
        return None
    whole = names.stem_conv in file.layer_names  # and not that of a model around it
    listed = next((name for name in file.layer_names if whole and re.fullmatch(r"activation(_\d+)?", name)), None)
    if listed is not None:
        notes.reasons.append(
            f"layer {listed!r} but no {names.pool_pad!r}: the pool has no border, as in {family.pools[other]}"
        )
        return other
    notes.assumed.append(
        f"no layers without weights are listed: a pool padded {usual!r}, as in {family.pools[usual]}, is assumed; if it was made "
        f"by {family.pools[other]}, say architecture='{family.package}/{family.model.format(depth=depth)} pool={other}'"
    )
    return None


def _scales_inside(file: StoredFile, family: Family) -> bool:
    """Whether the network scales pixels itself: by the list of layers, whose names Keras may have counted on
    (``rescaling_3``), or by a setting of the package's own class of networks, which is saved in place of layers."""
    for name, _ in family.inside:
        if any(re.fullmatch(rf"{name}(_\d+)?", listed) for listed in file.layer_names):
            return True
    return bool((file.config or {}).get("config", {}).get(family.inside_setting))


def convolutions(layers: StoredLayers, names: Iterable[str]) -> list[tuple[int, bool]]:
    """(output channels, whether there is a bias) of those of the named layers that are convolutions."""
    found = (layers[name] for name in names if name in layers)
    return [(t["kernel"].shape[3], "bias" in t) for t in found if "kernel" in t and len(t["kernel"].shape) == 4]


def _channels(layers: StoredLayers, names: Iterable[str], default: int) -> int:
    """Output channels of most of the named convolutions, so that a single odd one is reported and not believed."""
    return mode([channels for channels, _ in convolutions(layers, names)] or [default])


def _channels_in(layers: StoredLayers, stem: str) -> int:
    """Channels of the images: those that the stem's kernel takes."""
    kernel = layers.get(stem, {}).get("kernel")
    return kernel.shape[2] if kernel is not None and len(kernel.shape) == 4 and kernel.shape[2] > 0 else 3


def depthwise(layers: StoredLayers, family: Family) -> Tensor | None:
    """The kernel of the first block's 3x3 convolution if it is depthwise, with fewer results than inputs."""
    tensors = layers.get(family.main_conv(family.depths[0], 2, 0, branch=1), {})
    kernel = tensors.get("depthwise_kernel", tensors.get("kernel"))
    grouped = kernel is not None and len(kernel.shape) == 4 and 0 < kernel.shape[3] < kernel.shape[2]
    return kernel if grouped and block_kind(family.depths[0]) == "bottleneck" else None
