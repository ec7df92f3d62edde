"""The dependencies of a build: source files, tools, and the machine itself."""
