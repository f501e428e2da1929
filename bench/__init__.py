"""Benchmarks, run from the checkout: ``python -m bench.bench_im2col``. Results go to ``bench/results``."""
