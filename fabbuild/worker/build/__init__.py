"""Build one board at one commit: configure, make, collect what came out."""
