"""The work directory, its lock, processes, directories and text: used by all other packages of the worker."""
