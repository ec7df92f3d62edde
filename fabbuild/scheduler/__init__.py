"""The rules of a run as a pure state machine: events in, actions out, and the time is an argument."""
