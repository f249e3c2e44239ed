"""Thousands of runs at once, with NumPy: the same formulas on arrays. Nothing else of `predict` imports NumPy."""
