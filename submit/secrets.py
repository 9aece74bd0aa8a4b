"""What trainer/secrets.py has. In the installed package that file itself is in this place."""

from trainer.secrets import holds_secret, redact, without_secrets

__all__ = ["holds_secret", "redact", "without_secrets"]
