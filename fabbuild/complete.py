"""The completion of option values, by the name that scripts in users' shells call."""

from __future__ import annotations

import sys

from fabbuild.cli.complete import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
