"""Weight files, read with suspicion: everything between a path and {layer: {role: tensor}}, and back.

A weight file is untrusted input. ``opening.open_weights`` is the one way to it, and says in ``WeightsError`` what is wrong
with a file that is not what it should be. Nothing in a file is executed, followed out of the file or believed unchecked.

    opening.py    from a path to a tree of groups      archive.py    ``.keras``, which is a zip file
    shards.py     weights split over several files     impostors.py  what is none of these, by name
    contained.py  HDF5 files of other programs, left   hdf5/         the format itself
                  to h5py in a process of its own
    layers.py     from the tree to layers, whatever    stored.py     what comes out: tensors by layer and role
                  the layout                           config_names.py  the names of layers in a model's config
    legacy.py     groups named after layers            objects.py    trees of objects, counted by class
    keras_h5.py   writing the legacy layout            safe_write.py files that are whole or not there
"""
