"""Programs of the machine that a build uses: toolchains, wrappers of tools, the jobserver."""
