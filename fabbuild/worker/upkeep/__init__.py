"""Describe a machine, check it, and clean its work directory."""
