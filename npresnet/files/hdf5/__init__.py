"""The HDF5 format, read with suspicion. To learn it, read in this order:

source.py      bytes, bounds and budgets            headers.py     superblock, object headers, messages
datatypes.py   element types and shapes             heaps.py       where text is kept
groups.py      names and addresses of members       attributes.py  names, versions, the config
storage.py     numbers: in one piece or in chunks   reader.py      all together: a tree of groups and tensors
"""
