"""The fast forms of what PyTorch does slowly, each with a slow, obvious witness in the tests."""
