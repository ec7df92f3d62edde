"""The boards of a tree: list boards, evaluate their Kconfig, find their maintainers, and select boards."""
