"""The table of source suffixes: `fabbuild.protocol.source_kinds`."""

import ast
from pathlib import Path

import pytest

import fabbuild
from fabbuild.protocol import source_kinds

_SUFFIXES = {".c", ".S", ".dts", ".dtsi", ".dtso", ".lds"}


@pytest.mark.parametrize(
    ("name", "suffixes"),
    [
        ("SOURCE", {".c", ".h", ".S", ".s", ".dts", ".dtsi", ".dtso", ".inc", ".lds", ".l", ".y"}),
        ("RECOMPILED", {".c", ".h", ".S", ".dts", ".dtsi", ".dtso", ".lds"}),
        ("SEARCHED", {".h", ".dtsi", ".inc"}),
        ("HAVE_OBJECTS", {".c", ".S"}),
    ],
)
def test_each_property_names_its_suffixes(name, suffixes):
    found = getattr(source_kinds, name)
    assert set(found) == suffixes
    assert len(found) == len(suffixes)


def test_no_other_module_lists_suffixes_of_source():
    found = []
    for path in Path(fabbuild.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
                words = {item.value for item in node.elts if isinstance(item, ast.Constant)}
                if len(words & _SUFFIXES) > 1:
                    found.append(path.name)
    assert found == []
