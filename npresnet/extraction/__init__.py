"""Features of whole folders, in a job that can be killed at any moment and goes on where it was.

    inputs ──> job.json, inputs-0.jsonl          what is computed of what, decided once           job, inputs
    pictures ──decoders──> float32[n, h, w, c]   in processes that a bad file may kill            decoder, decoders
             ──network──> maps ──pool──> rows    in this process alone, with all threads          rows
             ──commit──> shards/00042.npy, then shards/00042.jsonl, which makes it count          shards
    shards ──open_features──> rows by path       lazily, read-only                                reader

Which images a shard holds is fixed, and an image's row has the same bits in any batch, for any number of threads and
decoders; so however the work is cut, killed and taken up again, the features are the same.
"""
