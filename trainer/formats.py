"""Temporary: the old reader under its new name."""

from trainer.files import Source

__all__ = ["Source"]
