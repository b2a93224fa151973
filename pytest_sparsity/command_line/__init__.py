"""The commands of `pytest-sparsity`, and how their arguments are read."""
