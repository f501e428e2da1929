"""Which arithmetic brings pixels to a network.

What the network does to pixels itself is seen in its graph, and then they go in as they are. What was done to them outside no
file says: that is a habit of its family, which whoever trained it further may have kept or not.
"""

from __future__ import annotations

from ..errors import UsageError
from .architecture import Architecture
from .family import Family
from .graph import Graph, Layer
from .operators import Conv2D, Input, Pad

__all__ = ["preprocessing_of", "scales_pixels"]

_AS_THEY_ARE = "none"  # of ``images/conventions.py``

_SIZE = 509, 503  # pixels; such as no layer makes of another size


def preprocessing_of(
    architecture: Architecture, graph: Graph, habits: Family | None, asked: str | None = None
) -> tuple[str, str, str | None]:
    """(convention of ``images/conventions.py``, why it is that one, what is doubtful about it or None) for a network's pictures.

    habits  the family that the network belongs to or was made from, None where no family is known
    asked   the convention that the user wants, whatever the network looks like
    """
    if asked is not None:
        return asked, "as it was asked for", None
    inside = scales_pixels(graph)
    if inside is not None:
        return _AS_THEY_ARE, f"the network changes them itself, first in {inside.name!r}", None
    override = (
        "if it was otherwise, say so with preprocessing= or --preprocessing: 'unit', say, if pixels were divided by 255"
    )
    if habits is None or graph.channels != 3:
        return (
            _AS_THEY_ARE,
            "nothing says how they were prepared",
            f"nothing says how pictures were prepared for this network: pixels go in as they are, 0 to 255; {override}",
        )
    why = f"as is usual for networks of {habits.package}"
    if not architecture.own and architecture.classes in (None, habits.classes):
        return habits.preprocessing, why, None
    size = "" if graph.size else ", nor to which size, for the file fixes none"
    return (
        habits.preprocessing,
        why,
        f"nothing says how pictures were prepared when this network was trained further{size}: they are prepared "
        f"{why}, by {habits.preprocessing!r}; {override}, or 'none' if they went in as they are",
    )


def scales_pixels(graph: Graph) -> Layer | None:
    """The first layer between the images and the first convolution that changes the numbers of pixels, or None.

    What changes the size of a map, its border or its number of channels leaves the numbers alone, or takes means of them.
    """
    first = next((layer for layer in graph.layers if isinstance(layer.operator, Conv2D)), graph.layers[-1])
    before = graph.needed_for(first.inputs)
    try:
        shapes = graph.shapes(*_SIZE, [layer.name for layer in before])
    except UsageError:  # for one size alone, so not by number after number
        return None
    return next(
        (
            layer
            for layer in before
            if not isinstance(layer.operator, Input | Pad)
            and any(shapes[name] == shapes[layer.name] for name in layer.inputs)
        ),
        None,
    )
