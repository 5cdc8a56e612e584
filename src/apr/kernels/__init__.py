"""Arithmetic on arrays, knowing no file and no model: one op a file, and in `quants/` one block codec a file.

The NumPy functions here are the definition of each op.
"""
