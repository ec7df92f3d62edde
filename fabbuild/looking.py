"""The tasks that look at runs, going on or over, from what they left, and touch no machine.

They are Invoke tasks as those of `fabbuild.tasks`, whose collection has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabbuild.options import EXPORT, RESULTS
from fabbuild.taskkit import make_task, settings_of


def _found(c: Any, options: Mapping[str, Any]) -> Any:
    """Find the results that the options, or else the configuration, mean."""
    from fabbuild.summary.find import find

    settings = settings_of(c, None, {name: options[name] for name in ("source", "output")})
    named = {name: options[name] or "" for name in ("branch", "commits")}
    if not any(named.values()):
        named = {"branch": settings.branch, "commits": settings.commits}
    return find(output=settings.output, source=settings.source, **named)


@make_task({**RESULTS, **EXPORT})
def export(c: Any, options: Mapping[str, Any]) -> None:
    """Write results or the last run for other programs: JUnit XML, trace events.

    Results are all that are there, whichever run built them; a trace is of the last run.
    """
    from fabbuild import export as files
    from fabbuild import ui
    from fabbuild.errors import UsageError
    from fabbuild.text import visible

    wanted = files.chosen(options)
    if not wanted:
        raise UsageError("nothing to write; give --junit FILE, --trace FILE, or both")
    for path in files.write(wanted, _found(c, options)):
        ui.say(f"written: {visible(str(path))}")


#: All of them.
TASKS = (export,)
