"""What trainer/errors.py has. In the installed package that file itself is in this place."""

from trainer.errors import Interrupted, UnreachableError, UserError, VerificationError, first_line, nearest

__all__ = ["Interrupted", "UnreachableError", "UserError", "VerificationError", "first_line", "nearest"]
