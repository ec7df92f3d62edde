"""How Sphinx builds these pages: ``inv docs``."""

from __future__ import annotations

from pathlib import Path

project = "fabbuild"
author = "the fabbuild developers"
# Not from the installed package: the pages can be built without it.
release = next(
    line.split('"')[1]
    for line in (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    if line.startswith("version = ")
)

extensions = ["myst_parser"]
# What `generate.py` puts into the pages; no pages themselves.
exclude_patterns = ["tasks", "build"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "alabaster"
html_theme_options = {
    "description": "Many boards, many commits, many machines",
    "fixed_sidebar": True,
    "page_width": "1080px",
    "body_max_width": "860px",
}
# The theme links custom.css.
html_static_path = ["static"]
html_show_sourcelink = False
