"""The machine's git repository, and the worktrees that boards are built in."""
