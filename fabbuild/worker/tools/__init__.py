"""Programs of the machine that a build uses: toolchains, wrappers, the jobserver, the environment."""
