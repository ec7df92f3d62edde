"""`fabbuild.config.settings.BuildSettings` by its published name."""

from __future__ import annotations

from fabbuild.config.settings import BuildSettings

__all__ = ["BuildSettings"]
