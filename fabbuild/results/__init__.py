"""Results on this machine: the result tree, files that arrive for it, and the store of results of earlier runs."""
