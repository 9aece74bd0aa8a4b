"""The table under the name that it had for a while."""

from trainer.columns import Kind
from trainer.table import Column, Rows, Table, load

__all__ = ["Column", "Kind", "Rows", "Table", "load"]
