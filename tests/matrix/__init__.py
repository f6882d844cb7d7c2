"""The crash matrix: every operation, at every point that it passes, with every process killed and every message astray.

``python -m tests.matrix --help``
"""
