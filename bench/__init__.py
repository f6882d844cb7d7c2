"""Measurements, which no test depends on: run each as ``python -m bench.NAME`` from the folder of the repository."""
