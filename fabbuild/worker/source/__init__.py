"""The machine's git repository, and the worktrees in which boards are built."""
