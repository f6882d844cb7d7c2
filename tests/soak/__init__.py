"""A random mix of operations on many hosts, with random kills: ``python -m tests.soak --help``."""
