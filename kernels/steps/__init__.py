"""A plan's steps: typed records, and the loop in which any number of threads work them off.

    records.py     how a kind of step is declared, and a plan's steps in memory
    loop.py        working off all steps of a plan, or a single one
    epilogue.py    what is done to a result before it is stored: bias, residual, activation
    intrinsics.py  what natives do with memory: copies, atomics, views of records
    pointwise.py, im2col.py, winograd.py, grouped.py    the steps of convolutions

The steps of simpler operators are in the operators' own files: ``maxpool.py`` declares ``MaxPoolStep``.
"""
