"""Build one board at one commit: configure, make, collect the output."""
