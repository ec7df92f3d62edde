"""The work directory, its lock, processes and text: modules that all other packages of the worker use."""
