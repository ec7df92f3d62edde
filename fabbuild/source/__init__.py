"""The user's git tree: its commits, snapshots of the current source, its boards, and pushes to machines."""
