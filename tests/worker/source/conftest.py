"""Fixtures of the worker alone."""

from tests.worker.fixtures import processes, source, work

__all__ = ["processes", "source", "work"]
