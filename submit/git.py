"""What trainer/git.py has. In the installed package that file itself is in this place."""

from trainer.git import Git, ask_git

__all__ = ["Git", "ask_git"]
