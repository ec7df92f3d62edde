"""The work directory, its lock, processes, text: used by all other packages of the worker."""
