"""Write the tables of ``development.md``: the rooms with a line for each module, and the helpers of the tests.

Each line is the first line of a module's docstring; which rooms a room imports is read from its import statements.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "development.md"

#: The rooms from top to bottom: each imports only rooms behind it, and those of `worker` nothing but `protocol`.
#: `base` and `published` are the modules that lie in the package itself.
ROOMS = (
    "demo", "cli", "reporting", "build", "events", "results", "machines", "scheduler", "config", "source", "base",
    "protocol", "worker", "published",
)  # fmt: skip

_AT_THE_TOP = {
    "base": "The nouns, errors, text and threads that every room uses.",
    "published": "Names for programs that embed fabbuild, and fakes for their tests.",
}

#: The modules of `published`.
PUBLISHED = {"__init__", "__main__", "complete", "fleet", "hosts", "settings", "tasks", "testing", "transport"}


def modules(root: Path) -> list[Path]:
    """Return the modules of the package, without the sample tree that the demo builds."""
    data = root / "fabbuild" / "demo" / "data"
    return sorted(path for path in (root / "fabbuild").rglob("*.py") if data not in path.parents)


def room_of(root: Path, module: Path) -> str:
    """Return the name of a module's room."""
    parts = module.relative_to(root / "fabbuild").parts
    return parts[0] if len(parts) > 1 else "published" if module.stem in PUBLISHED else "base"


def imported_rooms(root: Path, room: str) -> set[str]:
    """Return the other rooms that the modules of a room import."""
    packages = {path.parent.name for path in (root / "fabbuild").glob("*/__init__.py")}
    found = set()
    for path in modules(root):
        if room_of(root, path) == room:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                found |= {words[1] if words[1] in packages else "base" for words in _imported(node)}
    return found - {room}


def _imported(node: ast.AST) -> Iterator[list[str]]:
    """Yield what an import statement names of the package, split at the dots."""
    names = (
        [alias.name for alias in getattr(node, "names", [])]
        if isinstance(node, ast.Import | ast.ImportFrom)
        else []
    )
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{name}" for name in names]
    yield from (words for words in (name.split(".") for name in names) if words[0] == "fabbuild")


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"docs/generate_development.py: {path} has no docstring that says what it is for")
    return docstring.split("\n")[0].replace("|", "\\|")


def rooms(root: Path = ROOT) -> str:
    """Return a section for each room, with a row for each of its modules."""
    by_room: dict[str, list[Path]] = {room: [] for room in ROOMS}
    for path in modules(root):
        if room_of(root, path) not in by_room:
            raise SystemExit(f"docs/generate_development.py: name {room_of(root, path)} in ROOMS, and draw it")
        by_room[room_of(root, path)].append(path)
    return "\n\n".join(_room(root, room, paths) for room, paths in by_room.items() if paths)


def _room(root: Path, room: str, paths: list[Path]) -> str:
    package = root / "fabbuild" if room in _AT_THE_TOP else root / "fabbuild" / room
    purpose = _AT_THE_TOP.get(room) or _first_line(package / "__init__.py")
    others = imported_rooms(root, room)
    imports = ", ".join(other for other in ROOMS if other in others) or "no other room"
    rows = [_row(package, path) for path in paths if path.parent != package or path.name != "__init__.py"]
    heading = f"{room}: `fabbuild/`" if room in _AT_THE_TOP else f"{room}: `fabbuild/{room}/`"
    return "\n".join([f"### {heading}", "", f"{purpose} It imports {imports}.", "", *_table(rows)])


def _row(package: Path, path: Path) -> str:
    name = path.relative_to(package)
    if path.name == "__init__.py":
        return f"| **`{name.parent}/`** | **{_first_line(path)}** |"
    return f"| `{name}` | {_first_line(path)} |"


def helpers(root: Path = ROOT) -> str:
    """Return a table of the modules that tests share, with the fixtures that each defines."""
    paths = [path for path in sorted((root / "tests" / "support").glob("*.py")) if path.name != "__init__.py"]
    rows = [f"| `{path.name}` | {_first_line(path)} | {', '.join(_fixtures(path))} |" for path in paths]
    return "\n".join(["| helper | what it is for | fixtures |", "|---|---|---|", *rows])


def _fixtures(path: Path) -> list[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return [f"`{one.name}`" for one in functions if any("fixture" in ast.unparse(d) for d in one.decorator_list)]


def _table(rows: list[str]) -> list[str]:
    return ["| module | what it is for |", "|---|---|", *rows]


def page() -> str:
    """Return the text of the page, with its tables written anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("rooms", rooms()), ("helpers", helpers())):
        pattern = rf"(?s)(<!-- {name}: [^>]*-->\n).*?(<!-- end of {name} -->)"
        if len(re.findall(pattern, text)) != 1:
            raise SystemExit(f"docs/generate_development.py: {PAGE} has no place for the table of {name}")
        text = re.sub(pattern, lambda place, table=table: f"{place[1]}\n{table}\n\n{place[2]}", text)
    return text
