"""Paths, processes, directories, text and the lock: what every part of the worker stands on."""
