"""What trainer/signals.py has. In the installed package that file itself is in this place."""

from trainer.signals import heard, hurried

__all__ = ["heard", "hurried"]
