"""Look at a machine, check it, and keep its work directory small."""
