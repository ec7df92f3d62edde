"""The user's git tree: its commits, a snapshot of the current source, its boards, and pushes to machines."""
