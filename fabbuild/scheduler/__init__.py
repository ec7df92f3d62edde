"""The rules of a run, pure: events in, actions out, and the time is an argument."""
