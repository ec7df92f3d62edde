"""Fixtures of the worker alone."""

from tests.worker.fixtures import source, work

__all__ = ["source", "work"]
