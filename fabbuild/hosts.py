"""`fabbuild.machines.transport.ssh_connections` by its old name."""

from __future__ import annotations

from fabbuild.machines.transport.ssh_connections import connection_for

__all__ = ["connection_for"]
