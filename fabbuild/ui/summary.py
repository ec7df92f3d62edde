"""What each commit changed, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from fabbuild.story import json_line
from fabbuild.summary import Summary, Wanted, as_json
from fabbuild.ui.output import stdout

if TYPE_CHECKING:
    from fabbuild.summary.find import Found


@dataclass(frozen=True)
class SummaryView:
    """What is to be shown of a summary, and the facts that needs."""

    wanted: Wanted = field(default_factory=Wanted)
    errors: bool = False
    list_boards: bool = False
    detail: bool = False
    unbuilt: bool = False
    all_commits: bool = False
    all_boards: bool = False
    commands: bool = False
    json: bool = False

    @classmethod
    def chosen(cls, options: Mapping[str, Any]) -> SummaryView:
        """Read the options of the task ``summary``."""
        wanted = Wanted(
            sizes=bool(options["sizes"] or options["detail"]),
            functions=bool(options["bloat"]),
            config=bool(options["config"] or options["all_config_files"]),
            all_config_files=bool(options["all_config_files"]),
            environment=bool(options["environment"]),
            boards=options["board"] or "",
            archs=options["arch"] or "",
            since=options["since"] or "",
            no_dtb_warnings=bool(options["filter_dtb_warnings"]),
            no_migration_warnings=bool(options["filter_migration_warnings"]),
        )
        shown = ("errors", "list_boards", "detail", "unbuilt", "all_commits", "all_boards", "commands", "json")
        return cls(wanted, **{name: bool(options[name]) for name in shown})


def print_summary(summary: Summary, found: Found, view: SummaryView, *, stream: IO[str] | None = None) -> None:
    """Print a summary as ``view`` says."""
    out = stdout(stream)
    if view.json:
        out.line(json_line(as_json(summary)))
        return
    out.line(f"{found.range.name}: {len(summary.commits)} commits")
