"""The Invoke tasks, their options, the completion of shells, and `ui`, the only package that prints."""
