"""`fabbuild.machines.transport.ssh_connections.connection_for` by its published name."""

from __future__ import annotations

from fabbuild.machines.transport.ssh_connections import connection_for

__all__ = ["connection_for"]
