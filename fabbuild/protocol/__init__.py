"""What boss and worker share: the wire, and rules that both must apply alike. Standard library, Python 3.8."""
