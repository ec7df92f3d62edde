"""What each commit of a range changed, from a result tree: fabbuild's own, or one that buildman wrote."""
