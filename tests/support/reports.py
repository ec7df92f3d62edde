"""Make HTML reports of results that were written by hand, and read the facts in them."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path

from fabbuild.reporting.html.report import make_report
from fabbuild.reporting.summary.find import find
from tests.support.results import commit_hash, fails, size_line, warns, write_results


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


BROKEN = (
    "drivers/x.c: In function 'probe':",
    "drivers/x.c:3:4: error: 'y' undeclared",
    "    3 |  y;",
    "make: *** [x.o] Error 1",
)


WARNING = "lib/z.c:9:1: warning: unused variable 'q' [-Wunused-variable]"


def series(tmp_path, **more):
    """Write a range whose third commit breaks two boards, and whose fourth mends one and warns in another."""
    sizes = {"sizes": size_line(1000)}
    quiet = {"arch_1": sizes, "arch_2": sizes, "other": {}}
    write_results(
        tmp_path,
        {
            1: quiet,
            2: quiet,
            3: {"arch_1": fails(*BROKEN), "arch_2": {"sizes": size_line(1400), **more}, "other": fails(*BROKEN)},
            4: {"arch_1": fails(*BROKEN), "arch_2": {"sizes": size_line(1400), **warns(WARNING)}, "other": {}},
        },
    )
    own = tmp_path / "series" / ".fabbuild"
    own.mkdir()
    archs = {"arch_1": "arm", "arch_2": "arm", "other": "riscv64"}
    subjects = ["Begin", "Go on", "Break it", "Mend some"]
    listed = [{"number": n, "hash": commit_hash(n), "subject": text} for n, text in enumerate(subjects, 1)]
    own.joinpath("commits.json").write_text(json.dumps({"boards": archs, "commits": listed}))
    return own
