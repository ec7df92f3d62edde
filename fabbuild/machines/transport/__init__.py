"""Transports to machines: subprocesses on this one, SSH to others, by Fabric Connections or the ``ssh`` program."""
