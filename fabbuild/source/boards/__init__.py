"""The boards of a tree: list them, evaluate their Kconfig, find their maintainers, and select some."""
