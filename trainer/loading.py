"""Temporary: the table under its former name."""

from trainer.columns import Kind
from trainer.table import Column, Rows, Table, load

__all__ = ["Column", "Kind", "Rows", "Table", "load"]
