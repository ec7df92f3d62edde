"""The machine's programs that builds use: toolchains, wrappers of tools, the jobserver."""
