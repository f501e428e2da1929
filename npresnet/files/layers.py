"""What a Keras weight file holds, whatever its layout: {layer: {role: tensor}}, the list of layers, the model's config.

    legacy .h5       weights alone, or the whole model (Keras 1, 2, 3): groups named after layers         legacy.py
    .weights.h5      Keras 3 and Keras 2.12 to 2.15: a tree of objects; layers are counted by class,      objects.py
                     and carry their names only since Keras 3.6
    .weights.json    the same tree, split over several files
    .keras           the same tree in a zip archive, with the model's config, which tells the names

``read_layers`` brings all of them into one form, ``stored.StoredFile``. Where a file holds no names, ``StoredFile.unnamed``
keeps what is known: the class of each layer and its number among those of its class. ``network/keras_order.py`` says which
layer of a graph that is.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import WeightsError
from .hdf5.tree import Group
from .legacy import read_legacy
from .objects import read_objects
from .opening import WeightsFile
from .stored import StoredFile

__all__ = ["read_layers"]


def read_layers(root: WeightsFile) -> StoredFile:
    """The layers of a file in any layout that Keras writes since version 1.0.

    The model's config is additional: one that is damaged is left out, and a doubt says so. Raises WeightsError for another
    layout, saying what to do.
    """
    doubts: tuple[str, ...] = ()
    try:
        config = root.config
    except WeightsError as error:
        config = None
        doubts = (f"the file describes its model, but the description cannot be read ({error})",)
    holder: Group = root
    layout = "legacy HDF5, weights only"
    names = root.names("layer_names")
    if names is None and "model_weights" in root.groups():
        layout, holder = "legacy HDF5, whole model", root.groups()["model_weights"]
        names = holder.names("layer_names")
    if names is not None:
        return replace(read_legacy(root, holder, names, layout, config), doubts=doubts)
    if root.attribute("nb_layers") is not None:
        raise WeightsError(
            "this is a weight file of Keras before 1.0, which holds no layer names; load the model in Keras and write "
            "`model.save('name.h5')`, a layout that npresnet reads"
        )
    return replace(read_objects(root, config), doubts=doubts)
