"""The result tree, and the files of results on their way into it."""
