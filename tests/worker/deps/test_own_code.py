"""The fingerprint of the worker's code: another one when code that decides means something else, and only then."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fabbuild
from fabbuild.machines.worker_zip import worker_program
from fabbuild.worker.deps.own_code import DECIDING, code_digest, deciding_modules
from tests.support.supervised import old_python

MODULES = deciding_modules()
TOP = Path(fabbuild.__file__).parents[1]

#: Where a build begins: the program's entry, the service and what builds a board.
ROOTS = ("fabbuild.worker.main", "fabbuild.worker.service.service", "fabbuild.worker.build.builder")

#: Rooms that are imported by the program's entry for its other subcommands, and are no part of a build.
NO_PART = ("fabbuild/worker/supervisor/", "fabbuild/worker/upkeep/")


class _OtherWords(ast.NodeTransformer):
    """Gives each docstring other words, and an undocumented definition a docstring."""

    def generic_visit(self, node):
        super().generic_visit(node)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body[: int(documented)] = [ast.Expr(ast.Constant("Other words."))]
        return node


class _OtherConstant(ast.NodeTransformer):
    """Changes the last text, number or truth value of a module that is not a docstring."""

    def __init__(self, tree):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        words = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
        }
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in words]
        self.last = constants[-1] if constants else None

    def visit_Constant(self, node):
        return ast.Name("other", ast.Load()) if node is self.last else node


def _rewritten(source, transformer):
    return ast.unparse(ast.fix_missing_locations(transformer.visit(ast.parse(source)))).encode()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_comments_docstrings_and_layout_do_not_count(name):
    before = code_digest({name: MODULES[name]})
    assert code_digest({name: b"# a comment\n\n" + MODULES[name] + b"\n# another\n"}) == before
    reworded = _rewritten(MODULES[name], _OtherWords())
    assert reworded != MODULES[name]
    assert code_digest({name: reworded}) == before


@pytest.mark.parametrize("name", sorted(MODULES))
def test_each_change_of_the_meaning_of_a_deciding_module_counts(name):
    before = code_digest({name: MODULES[name]})
    assert code_digest({name: MODULES[name] + b"\nother = 1\n"}) != before
    mutate = _OtherConstant(tree := ast.parse(MODULES[name]))
    if mutate.last is not None:
        assert code_digest({name: ast.unparse(mutate.visit(tree)).encode()}) != before
    else:
        assert name.endswith("/__init__.py"), "a module with a constant that can be changed"


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13", "3.14"])
def test_releases_of_python_give_one_fingerprint(version):
    ask = (
        "from fabbuild.worker.deps.own_code import code_digest, deciding_modules as own; print(code_digest(own()))"
    )
    said = subprocess.run([old_python(version), "-c", ask], cwd=TOP, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == code_digest(MODULES)


def test_modules_of_one_name_in_two_packages_both_count():
    one, two = "fabbuild/worker/base/settings.py", "fabbuild/worker/build/settings.py"
    digests = {code_digest({one: first, two: b"x = 1\n"}) for first in (b"x = 1\n", b"x = 2\n")}
    digests |= {code_digest({one: b"x = 1\n", two: second}) for second in (b"x = 2\n", b"x = 3\n")}
    assert len(digests) == 4
    names = [Path(name).name for name in MODULES]
    assert names.count("__init__.py") > 1, "all of one base name are read"


def test_a_module_that_is_moved_removed_or_added_counts():
    source = b"x = 1\n"
    digests = [{"a/m.py": source}, {"b/m.py": source}, {}, {"a/m.py": source, "a/n.py": b""}]
    assert len({code_digest(modules) for modules in digests}) == 4


def test_it_is_the_same_in_the_program_that_is_sent(tmp_path):
    bundle = tmp_path / "worker.pyz"
    bundle.write_bytes(worker_program().data)
    ask = (
        "import json, sys; sys.path.insert(0, sys.argv[1]);"
        "from fabbuild.worker.deps.own_code import code_digest, deciding_modules;"
        "print(json.dumps([sorted(deciding_modules()), code_digest(deciding_modules())]))"
    )
    argv = [sys.executable, "-I", "-c", ask, str(bundle)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == [sorted(MODULES), code_digest(MODULES)]


@pytest.mark.parametrize("part", DECIDING)
def test_each_part_that_decides_has_its_modules_read(part):
    place = TOP / part
    files = [place] if place.is_file() else place.rglob("*.py")
    expected = {str(path.relative_to(TOP)) for path in files}
    assert expected
    assert expected <= MODULES.keys()


def _path_of(module):
    """Give the file of a module or package of ours; None for another name, and for what the zipapp has empty."""
    if module == "fabbuild":
        return None
    place = TOP.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return str(path.relative_to(TOP))
    return None


def _imported(module):
    """Name the modules that one imports, within functions, too."""
    for node in ast.walk(ast.parse((TOP / _path_of(module)).read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_all_that_a_build_reaches_decides():
    left, reached = list(ROOTS), set()
    bare = "fabbuild/worker/__init__.py"
    while left:
        module = left.pop()
        path = _path_of(module)
        if path is None or path in reached or path.startswith(NO_PART):
            continue
        reached.add(path)
        left += _imported(module)
        left += [module.rpartition(".")[0]] if "." in module else []
    assert reached - MODULES.keys() == {bare}
    assert code_digest({bare: (TOP / bare).read_bytes()}) == code_digest({bare: b""})
    assert len(reached) > len(MODULES) / 2


def test_a_build_imports_nothing_of_the_rooms_that_do_not_decide(tmp_path):
    bundle = tmp_path / "worker.pyz"
    bundle.write_bytes(worker_program().data)
    ask = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fabbuild.worker.main, fabbuild.worker.service.service;"
        "print('\\n'.join(name for name in sys.modules if name.startswith('fabbuild')))"
    )
    argv = [sys.executable, "-I", "-c", ask, str(bundle)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert "fabbuild.worker.build.builder" in said
    assert [name for name in said if name.replace(".", "/").startswith(NO_PART[0][:-1])] == []
    assert [name for name in said if name.replace(".", "/").startswith(NO_PART[1][:-1])] == []
