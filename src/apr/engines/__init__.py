"""Ways to get tokens and logits out of a model, one engine a file, and the one generation that everything uses."""
