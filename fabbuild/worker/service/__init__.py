"""The command loop of the worker and its slots."""
