"""Promises, and the evidence that keeps them: contracts, evidence, predictions."""
