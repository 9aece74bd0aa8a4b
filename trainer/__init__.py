"""The rooms that train.py, and whoever else works with its runs and models, share."""
