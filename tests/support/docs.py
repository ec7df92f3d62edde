"""Read the pages of docs/: sections, names in backquotes, generated pages that are not current."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.support.census import HANG_LIMIT
from tests.support.farm import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parts[len(DOCS.parts)] not in ("tasks", "build"))


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """Give what stands under a heading, down to the next of its level or above."""
    text = page(name)
    match = re.search(rf"(?m)^(#+) {re.escape(heading)}$", text)
    assert match, f"docs/{name} has no heading {heading!r}"
    level = len(match.group(1))
    rest = re.split(rf"(?m)^#{{1,{level}}} ", text[match.end() :])
    return rest[0]


def missing(text: str, names: Iterable[str]) -> list[str]:
    """Give those names that do not stand in backquotes in the text, alone or with something behind them."""
    return [name for name in names if not re.search(rf"`{re.escape(name)}(?![\w-])", text)]


def stale() -> list[str]:
    """Give the pages that docs/generate.py would write otherwise; in a process of its own, for it adds to the tasks."""
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_LIMIT)
    assert ended.returncode in (0, 1), ended
    return ended.stdout.splitlines()


def module_text(*names: str) -> str:
    """Give the source of modules of fabbuild, one behind the other."""
    return "\n".join((Path(ROOT) / "fabbuild" / name).read_text(encoding="utf-8") for name in names)
