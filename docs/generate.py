"""Write ``reference/tasks.md`` from the tasks and from ``docs/tasks/``, and the tables of ``development.md``.

``inv docs --regenerate`` runs it; with ``--check`` it names the pages that are not current, and a test runs that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import generate_development

DOCS = Path(__file__).parent
PAGE = DOCS / "reference" / "tasks.md"
EXAMPLES = DOCS / "tasks"
EVENT_SCHEMA = DOCS / "schemas" / "event-1.json"

_HEAD = """\
# Tasks and options

This page is for looking up what a task does, which options it takes, what holds when an option is not given, and
under which key the same can be said in a file or in the environment.

<!-- Written by docs/generate.py from the tasks themselves: change fabbuild/config/settings.py,
     fabbuild/cli/options.py, fabbuild/cli/tasks.py or docs/tasks/NAME.md, then run `inv docs --regenerate`. -->

`inv --list` and `inv --help TASK` say the same in a terminal. Options stand after the task's name, in any order.
An option that takes a value is written `--option value` or `--option=value`.

A *key* in the tables below is a configuration key: the key `boards` can be given

- on the command line as `--boards`,
- in the environment as `INVOKE_FABBUILD_BOARDS` under `inv`, and as `FABRIC_FABBUILD_BOARDS` under `fab`,
- in `invoke.yaml` (under `inv`) or `fabric.yaml` (under `fab`) as `boards:` below `fabbuild:`,
- in machines.yaml as `boards:` below `build:` (read by the tasks that work on machines),

and what comes first in this list wins. An option without a key (-) can be given on the command line only.
Invoke's own flags stand in front of the task: `inv --dry build …` says what would be done and contacts no machine,
`inv --debug build …` shows the traceback of an error.
"""

_ALONE = """\
## Tasks of this repository alone

They are there in a clone of fabbuild's repository, not in a collection that imports it.
"""

_KEYS_HEAD = """\
## Configuration keys

Every key, with what it is called where. `fab` reads `FABRIC_` in place of `INVOKE_`. A flag in the environment is
`1` or `0` (or `true`, `yes`, `on`, `false`, `no`, `off`); an empty text means "not given".

| key | environment | in machines.yaml | default |
|---|---|---|---|
"""

#: Stands in a cell for nothing.
NONE = "-"

#: Keys that are no options of `build`.
_KEYS_ALONE = {
    "ssh_config": "`~/.ssh/config`, then `/etc/ssh/ssh_config`: the SSH configuration file to read",
    "toolchain_url": "what machines.yaml says under `toolchains: {url: …}`, then kernel.org's own: where "
    "`toolchains --fetch` gets from",
}

#: Options that have the name of a key and do not follow it, besides ``--json`` of all tasks but ``build``.
_NOT_THE_KEY = frozenset({("history", "boards"), ("clean", "branch"), ("test", "only"), ("docs", "output")})


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _shown(value: object) -> str:
    """Return a default as the page shows it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value in ("", (), []):
        return NONE
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _key(task: str, name: str) -> str:
    """Return the configuration key of an option of a task; empty if it has none."""
    from fabbuild.config.settings import OPTIONS

    follows = name in OPTIONS and (task == "build" or name != "json") and (task, name) not in _NOT_THE_KEY
    return name if follows or name in _KEYS_ALONE else ""


def _default(key: str, default: object) -> str:
    from fabbuild.config.settings import BuildSettings

    return _shown(getattr(BuildSettings(), key, default) if key else default)


def _options(task: Any) -> Iterable[str]:
    rows = []
    for argument in task.get_arguments():
        # The name in Python, and on the command line.
        name = argument.attr_name or argument.name
        dashed = name.replace("_", "-")
        key = _key(task.name, name)
        flag = f"--[no-]{dashed}" if argument.default is True else f"--{dashed}"
        value = "" if argument.kind is bool else "[=…]" if argument.optional else "=…"
        shown = _default(key, argument.default)
        others = [other for other in argument.names if other.replace("-", "_") != name]
        also = "".join(f", `{'-' if len(other) == 1 else '--'}{other}`" for other in others)
        rows.append(
            f"| `{flag}{value}`{also} | {shown} | {f'`{key}`' if key else NONE} | {_cell(argument.help or '')} |"
        )
    if not rows:
        return ["It takes no options."]
    return ["| option | default | key | what it does |", "|---|---|---|---|", *rows]


def _task(name: str, task: Any, aliases: Iterable[str]) -> str:
    doc = "\n".join(line.strip() for line in (task.__doc__ or "").strip().splitlines())
    also = "".join(f" (also `{alias}`)" for alias in aliases)
    example = EXAMPLES / f"{name}.md"
    text = example.read_text(encoding="utf-8").strip() if example.exists() else ""
    parts = [f"### `{name}`{also}", doc, text, "\n".join(_options(task))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tasks(collection: Any, but: Iterable[str] = ()) -> str:
    names = [name for name in sorted(collection.tasks) if name not in set(but)]
    aliases: dict[str, list[str]] = {}
    for alias, name in collection.tasks.aliases.items():
        aliases.setdefault(name, []).append(alias)
    return "\n".join(_task(name, collection.tasks[name], aliases.get(name, [])) for name in names)


def _keys() -> str:
    from fabbuild.cli.tasks import default_configuration
    from fabbuild.config.settings import NOT_IN_FILE, OPTIONS, BuildSettings

    rows = []
    for key in default_configuration():
        if key in OPTIONS:
            file = NONE if key in NOT_IN_FILE else f"`build.{key}`"
            default = _shown(getattr(BuildSettings(), key))
        elif key in _KEYS_ALONE:
            file, default = NONE, _KEYS_ALONE[key]
        else:
            raise SystemExit(f"docs/generate.py: say what the configuration key {key} is, in _KEYS_ALONE")
        rows.append(f"| `fabbuild.{key}` | `INVOKE_FABBUILD_{key.upper()}` | {file} | {default} |")
    return _KEYS_HEAD + "\n".join(rows) + "\n"


def page() -> str:
    """Return the text of the page of tasks."""
    from invoke.loader import FilesystemLoader

    from fabbuild.cli.tasks import collection

    ours = collection()
    module, _ = FilesystemLoader(start=str(DOCS.parent)).load("tasks")
    parts = [
        _HEAD,
        "## The tasks of the collection\n",
        _tasks(ours),
        _ALONE,
        _tasks(module.ns, ours.task_names),
        _keys(),
    ]
    return "\n".join(parts)


def event_schema() -> str:
    """Return the text of the schema of events."""
    from fabbuild.events import schema

    return json.dumps(schema.event_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the pages; or, with ``--check``, print those that are not current, and return whether there are any."""
    stale = 0
    pages = (
        (PAGE, page()),
        (generate_development.PAGE, generate_development.page()),
        (EVENT_SCHEMA, event_schema()),
    )
    for path, text in pages:
        if arguments != ["--check"]:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            stale = 1
            sys.stdout.write(f"{path.relative_to(DOCS.parent)}\n")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
