"""Build many boards of a Kbuild firmware tree at many commits, and tell which commit broke what."""
