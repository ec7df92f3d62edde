"""Limit how many examples a property test tries where one example takes long."""

from hypothesis import settings


def at_most(count: int) -> int:
    """Give the profile's number of examples, but no more than ``count``."""
    return min(count, settings().max_examples)
