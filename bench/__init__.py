"""Benchmarks of the project: our figure beside its limit, both taken in the same run (`make bench`)."""
