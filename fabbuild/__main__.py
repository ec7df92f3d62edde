"""Run the program ``fabbuild`` as ``python -m fabbuild``."""

from __future__ import annotations

from fabbuild.cli.program import main

if __name__ == "__main__":
    main()
