"""The machine's repository and the worktrees that boards are built in."""
