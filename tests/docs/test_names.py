"""Dotted names of modules, and of what is in them, that pages, docstrings and comments mention: each is there."""

import importlib
import re

import pytest

from tests.support.docs import DOCS, PAGES
from tests.support.farm import ROOT

#: Names that begin like a module's: files in a machine's repository.
FILES = {"fabbuild.damaged", "fabbuild.collected"}

MENTION = re.compile(r"`(fabbuild(?:\.\w+)+)`")


def is_there(name):
    """Whether a dotted name is a module, or an attribute in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
            found = importlib.import_module(".".join(parts[:count]))
            for part in parts[count:]:
                if not hasattr(found, part):
                    # A field without a default.
                    return part == parts[-1] and part in getattr(found, "__annotations__", {})
                found = getattr(found, part)
            return True
    return False


def texts():
    for place in ("fabbuild", "tests", "benchmarks"):
        for path in (ROOT / place).rglob("*.py"):
            if ROOT / "fabbuild" / "demo" / "data" not in path.parents:
                yield path
    yield from (path for path in [*PAGES, ROOT / "README.md"] if path != DOCS / "reference" / "tasks.md")


def test_every_dotted_name_that_is_mentioned_is_there():
    from fabbuild.cli.tasks import default_configuration

    keys = {f"fabbuild.{key}" for key in default_configuration()}
    mentions = [(path, name) for path in texts() for name in MENTION.findall(path.read_text(encoding="utf-8"))]
    assert len(mentions) > 40
    gone = {(str(path.relative_to(ROOT)), name) for path, name in mentions if name not in FILES | keys}
    assert sorted((path, name) for path, name in gone if not is_there(name)) == []


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("fabbuild.errors", True),
        ("fabbuild.results.tree.ResultTree.record", True),
        ("fabbuild.model.Job.board", True),
        ("fabbuild.results.tree.ResultTree.attic", False),
        ("fabbuild.attic", False),
    ],
)
def test_a_name_that_is_not_there_is_found(name, there):
    assert is_there(name) is there
