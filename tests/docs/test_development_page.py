"""docs/development.md: what it names is there, its picture and its tables are those of the code."""

import ast
import importlib.util
import re
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.support.docs import DOCS, page
from tests.support.farm import ROOT

SVG = "{http://www.w3.org/2000/svg}"
TEXT = page("development.md")

#: A file, and behind a colon what is in it: `build/dispatcher.py:Dispatcher.run`.
NAMED = re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|yaml|json|toml|txt|svg|js))(?::([A-Za-z_][\w.]*))?`", TEXT)


def load(name):
    """Import a program of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load("generate_development")


def place(path):
    """Find a file that the page names: below the root, or below fabbuild/."""
    return next((at / path for at in (ROOT, ROOT / "fabbuild") if (at / path).is_file()), None)


def is_defined(body, name):
    """Whether a module or class defines a name, or what is behind its dots."""
    first, _, rest = name.partition(".")
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == first:
            return not rest or (isinstance(node, ast.ClassDef) and is_defined(node.body, rest))
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not rest and any(isinstance(target, ast.Name) and target.id == first for target in targets):
            return True
    return False


def problem(path, name):
    """Say what is wrong with what the page names; nothing where it is there."""
    found = place(path)
    if found is None:
        return f"there is no {path}"
    if name and not is_defined(ast.parse(found.read_text(encoding="utf-8")).body, name):
        return f"{path} does not define {name}"
    return ""


def table_less():
    """Give the page without its generated tables."""
    return re.sub(r"(?s)<!-- (rooms|helpers): .*?<!-- end of \1 -->", "", TEXT)


def test_every_file_and_every_name_in_it_that_the_page_mentions_is_there():
    written = set(re.findall(r"`[^`]+`", table_less()))
    mentioned = [(path, name) for path, name in NAMED if {f"`{path}`", f"`{path}:{name}`"} & written]
    assert len(mentioned) > 60
    # NAME stands for any.
    assert [told for path, name in mentioned if "NAME" not in path and (told := problem(path, name))] == []


def test_every_folder_that_the_page_mentions_is_there():
    named = re.findall(r"`((?:[\w.-]+/)+)`", table_less())
    assert named
    assert [name for name in named if not any((at / name).is_dir() for at in (ROOT, ROOT / "fabbuild"))] == []


def test_every_method_that_the_page_mentions_is_there():
    mentioned = set(re.findall(r"`([A-Z][a-z]\w+\.\w+)`", table_less()))
    assert len(mentioned) > 5
    trees = [ast.parse(path.read_text(encoding="utf-8")).body for path in generate.modules(ROOT)]
    assert [name for name in mentioned if not any(is_defined(body, name) for body in trees)] == []


@pytest.mark.parametrize(
    ("path", "name", "told"),
    [
        ("build/dispatcher.py", "Dispatcher.run", ""),
        ("build/dispatcher.py", "Dispatcher.walk", "build/dispatcher.py does not define Dispatcher.walk"),
        ("build/gone.py", "", "there is no build/gone.py"),
    ],
)
def test_what_is_not_there_is_told(path, name, told):
    assert problem(path, name) == told


def boxes():
    """Give each room of the picture with the height it stands at."""
    picture = ET.parse(DOCS / "images" / "modules.svg")
    return {
        group.get("data-room"): float(group.find(f"{SVG}rect").get("y"))
        for group in picture.iter(f"{SVG}g")
        if group.get("data-room")
    }


def worker_rooms():
    return {f"worker/{path.parent.name}" for path in (ROOT / "fabbuild/worker").glob("*/__init__.py")} | {
        "worker/main"
    }


def test_the_picture_has_every_room():
    assert boxes().keys() == set(generate.ROOMS) - {"worker", "published"} | worker_rooms()


def test_in_the_picture_a_room_imports_only_rooms_below_it():
    heights = boxes()
    assert generate.imported_rooms(ROOT, "worker") == {"protocol"}
    rooms = [room for room in generate.ROOMS if room in heights]
    imports = {room: generate.imported_rooms(ROOT, room) for room in rooms}
    assert sum(map(len, imports.values())) > 30
    wrong = [
        f"{room} imports {other}"
        for room, others in imports.items()
        for other in others
        if heights[room] >= heights.get(other, 0)
    ]
    assert wrong == []


def test_in_the_picture_a_room_of_the_worker_imports_only_rooms_below_it():
    heights = boxes()
    for path in (ROOT / "fabbuild/worker").rglob("*.py"):
        of_worker = re.findall(r"(?m)^\s*(?:from|import) fabbuild\.worker\.(\w+)", path.read_text(encoding="utf-8"))
        room = f"worker/{path.parent.name}" if path.parent.name != "worker" else "worker/main"
        for other in {f"worker/{name}" for name in of_worker} - {room}:
            assert heights[room] < heights[other], f"{path} imports {other}"


@pytest.fixture
def small(tmp_path):
    """Give a source with one room."""
    package = tmp_path / "fabbuild"
    (package / "source").mkdir(parents=True)
    (package / "source" / "__init__.py").write_text('"""The tree."""\n')
    (package / "source" / "git.py").write_text('"""Run git.\n\nMore of it."""\nfrom fabbuild import errors\n')
    (package / "errors.py").write_text('"""Errors."""\n')
    return tmp_path


def test_the_table_of_rooms_has_each_module_and_what_its_room_imports(small):
    assert generate.rooms(small).startswith("### source: `fabbuild/source/`\n\nThe tree. It imports base.\n")
    assert "| `git.py` | Run git. |" in generate.rooms(small)
    (small / "fabbuild/source/push.py").write_text('"""Send commits."""\n')
    assert "| `push.py` | Send commits. |" in generate.rooms(small)


def test_a_room_without_a_place_and_a_module_without_a_sentence_are_refused(small):
    (small / "fabbuild/source/silent.py").write_text("x = 1\n")
    with pytest.raises(SystemExit, match="silent"):
        generate.rooms(small)
    (small / "fabbuild/source/silent.py").unlink()
    (small / "fabbuild/attic").mkdir()
    (small / "fabbuild/attic/__init__.py").write_text('"""Old things."""\n')
    with pytest.raises(SystemExit, match="attic"):
        generate.rooms(small)


def test_the_table_of_helpers_has_their_fixtures(tmp_path):
    support = tmp_path / "tests" / "support"
    support.mkdir(parents=True)
    made = (
        "@pytest.fixture(scope='session')\ndef farm(): pass\n@pytest.fixture\ndef _own(): pass\ndef plain(): pass\n"
    )
    (support / "farm.py").write_text(f'"""A place to work in."""\n{made}')
    assert "| `farm.py` | A place to work in. | `farm` |" in generate.helpers(tmp_path)
