"""What a release promises, how each promise was tried, and the evidence of it."""
