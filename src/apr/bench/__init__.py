"""How fast a model runs here: engines in processes of their own, timed in turns, beside what the memory allows."""
