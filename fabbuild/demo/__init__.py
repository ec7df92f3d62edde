"""A sample Kbuild tree with a series of commits, and the run that shows what fabbuild makes of it."""
