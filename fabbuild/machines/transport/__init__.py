"""Transports to machines: subprocesses on this one, SSH by Fabric Connections to others."""
