"""What a build depends on: source files, tools, and the machine itself."""
