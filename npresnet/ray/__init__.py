"""Features of folders on a Ray cluster: what ``npresnet extract`` does on one machine, on many. Needs the extra ``ray``.

    inputs.parquet ──read──> batches of paths ──Extract, in actors──> features ──write──> features/*.parquet

``python -m npresnet.ray INPUT --weights W --out DIR`` is the whole of it; ``Extract`` and ``actors`` are for pipelines of one's own:

    import npresnet.ray, ray

    ray.data.read_parquet("inputs.parquet").map_batches(
        npresnet.ray.Extract,
        fn_constructor_kwargs={"weights": "/shared/resnet50.h5"},
        batch_size=64, batch_format="numpy", num_cpus=2, max_restarts=3,
        compute=ray.data.ActorPoolStrategy(size=npresnet.ray.actors(cpus=2)),
    ).write_parquet("features")

Nothing here imports Ray before it is used.
"""

from .actor import Extract
from .job import extract
from .planning import actors

__all__ = ["Extract", "actors", "extract"]
