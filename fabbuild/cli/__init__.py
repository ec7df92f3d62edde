"""The Invoke tasks, their options, shell completion, and `ui`, the only package that prints."""
