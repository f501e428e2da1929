"""Weight files, read with suspicion: everything between a path and {layer: {role: tensor}}, and back.

A weight file is untrusted input. ``opening.open_weights`` is the one way to it, and says in ``WeightsError`` what is wrong
with a file that is not what it should be. Nothing in a file is executed, followed out of the file or believed unchecked.

    opening.py    from a path to a tree of groups      archive.py    ``.keras``, which is a zip file
    shards.py     weights split over several files     impostors.py  what is none of these, by name
    contained.py  HDF5 files of other programs, left   hdf5/         the format itself
                  to h5py in a process of its own
    layers.py     from the tree to layers, whatever    keras_h5.py   writing the legacy layout
                  the layout                           safe_write.py files that are whole or not there
"""
