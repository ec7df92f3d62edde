"""Ways to a machine: subprocesses here, or SSH by Fabric Connections."""
