"""`fabbuild.machines.session_pool.SessionPool` by its published name."""

from __future__ import annotations

from fabbuild.machines.session_pool import SessionPool as Fleet

__all__ = ["Fleet"]
