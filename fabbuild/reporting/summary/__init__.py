"""Find what each commit of a range changed, in a result tree of fabbuild or buildman."""
