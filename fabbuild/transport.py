"""The transports by their published names."""

from __future__ import annotations

from fabbuild.machines.transport.local import LocalTransport
from fabbuild.machines.transport.ssh import SshTransport

__all__ = ["LocalTransport", "SshTransport"]
