"""Fixtures; filled by its owner."""
