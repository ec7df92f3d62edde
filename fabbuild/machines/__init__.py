"""The boss's side of a build machine: its session, the messages of its worker, and its probe."""
