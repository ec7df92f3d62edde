"""`fabbuild.config.settings` by its old name."""

from __future__ import annotations

from fabbuild.config.settings import BuildSettings

__all__ = ["BuildSettings"]
