"""Networks on a CUDA card: ``npresnet.load(file, device="cuda")``.

    card.py      which cards there are, why one cannot be used, streams and memory
    program.py   a network for one shape of images, as steps that are queued on a stream; where each activation lies
    layers.py    the program that goes layer by layer: one kernel per Keras layer
    runner.py    batches through programs: copies that overlap with computing, traces
    arrays.py    arrays on the card, shared with other libraries without a copy

The kernels themselves are ``npresnet.kernels.cuda``. Nothing here is imported before a card is asked for.
"""
