"""Promises, and what keeps them: contracts, the evidence of runs, predictions, and how each promise stands."""
