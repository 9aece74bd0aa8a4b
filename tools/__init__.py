"""What `make lock` and `make sync` run."""
