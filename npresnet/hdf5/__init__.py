"""Weight files, read with suspicion: everything between a path and plain arrays.

A weight file is untrusted input. ``open_weights`` is the one way to it, and says in ``WeightsError`` what is wrong with
a file that is not what it should be. Nothing in a file is executed, followed out of the file or believed unchecked.

To learn the HDF5 format, read in this order:

    source.py      bytes, bounds and budgets            headers.py     superblock, object headers, messages
    datatypes.py   element types and shapes             heaps.py       where text is kept
    groups.py      names and addresses of members       attributes.py  names, versions, the config
    storage.py     numbers: in one piece or in chunks   reader.py      all together: a tree of groups and tensors

``archive.py`` opens ``.keras`` files, ``shards.py`` joins weights that are split over several files, ``impostors.py``
names what is none of these, and ``contained.py`` leaves HDF5 files of other programs to h5py, in a process of its own.
"""

from .opening import WeightsFile, open_weights
from .shards import remedy
from .tree import Group, StoredTensor

__all__ = ["Group", "StoredTensor", "WeightsFile", "open_weights", "remedy"]
