"""Code that boss and worker share: the wire, and rules that both apply. Standard library only, Python 3.8."""
