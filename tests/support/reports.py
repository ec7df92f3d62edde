"""Make HTML reports of results that were written by hand, and read the facts in them."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path

from fabbuild.reporting.html.report import make_report
from fabbuild.reporting.summary.find import find


def page_of(output: Path, name: str = "series") -> str:
    """Give the report of a range."""
    made = find(output=str(output), branch=name)
    return make_report(made, made.range.path / "report.html")[0]


def facts_of(page: str) -> dict:
    """Give the JSON in a page."""
    return json.loads(page.split('id="facts">')[1].split("</script>", maxsplit=1)[0])


class Words(html.parser.HTMLParser):
    """What a page says where no script runs, and the tags it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self._quiet = 0
        self.feed(page)
        self.text = " ".join(" ".join(self.said).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._quiet += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._quiet -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._quiet:
            self.said.append(data)
