"""Find toolchain archives, download them, and install them on machines."""
