"""Results made into text. Results are data everywhere else; here, and nowhere else, they become something to read."""
