"""The boards of a tree: which there are, what Kconfig and MAINTAINERS say of them, and which a selection takes."""
