"""Measurements: ``python -m benchmarks disk``. Method and results: ``benchmarks/README.md``."""
