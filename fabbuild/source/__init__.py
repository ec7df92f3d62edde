"""The user's git tree: commits, snapshots, and how they are brought to machines."""
