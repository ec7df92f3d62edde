"""Fixtures of the worker alone: a source repository."""

from tests.worker.fixtures import source

__all__ = ["source"]
