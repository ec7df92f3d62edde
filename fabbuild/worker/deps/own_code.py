"""Fingerprint the modules of the worker that determine the output of a build.

A result is reused only if the same code would make it again, so an edit of that code must void stored results. An
edit of a comment or a docstring must not, so the fingerprint is made of each module's syntax tree, without
docstrings and line numbers.

Releases of Python differ in their syntax trees; the fingerprint is the same with all of them.
"""

from __future__ import annotations

import ast
import hashlib
import os
import zipfile
from typing import Any, Dict

#: The code that determines a build's result: whole packages, and the program's entry, which sets the umask. The
#: other packages inspect a machine, clean it, or keep the worker running.
DECIDING = (
    "fabbuild/protocol/",
    "fabbuild/worker/base/",
    "fabbuild/worker/build/",
    "fabbuild/worker/deps/",
    "fabbuild/worker/main.py",
    "fabbuild/worker/service/",
    "fabbuild/worker/source/",
    "fabbuild/worker/tools/",
)


def deciding_modules() -> Dict[str, bytes]:
    """Return the source of each deciding module by its path, from the zipapp or directory of this program.

    Raises:
        OSError: the modules cannot be read.
    """
    archive = getattr(globals().get("__loader__"), "archive", None)
    return _in_archive(str(archive)) if archive else _in_directory()


def code_digest(modules: Dict[str, bytes]) -> str:
    """Return a digest, in hex, of the syntax trees of modules.

    Args:
        modules: the source of each module by its path, such as ``fabbuild/worker/build/make.py``.

    Raises:
        SyntaxError: one of them is not Python.
    """
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(b"%s\0%s\0" % (name.encode(), _meaning(ast.parse(modules[name], name)).encode()))
    return digest.hexdigest()


def _meaning(node: Any) -> str:
    """Return a syntax tree as text, without docstrings and without the fields that some releases lack."""
    if isinstance(node, list):
        return "[%s]" % ",".join(map(_meaning, node))
    if not isinstance(node, ast.AST):
        return repr(node)
    if type(node).__name__ == "Index":  # what Python 3.8 puts around the index of a subscript
        return _meaning(node.value)  # type: ignore[attr-defined]
    fields = dict(ast.iter_fields(node))
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
        ast.get_docstring(node, clean=False) is not None
    ):
        fields["body"] = fields["body"][1:]
    told = ["%s=%s" % (name, _meaning(value)) for name, value in fields.items() if value not in (None, [])]
    return "%s(%s)" % (type(node).__name__, ",".join(told))


def _decides(name: str) -> bool:
    return name.endswith(".py") and name.startswith(DECIDING)


def _in_archive(archive: str) -> Dict[str, bytes]:
    with zipfile.ZipFile(archive) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist() if _decides(name)}


def _in_directory() -> Dict[str, bytes]:
    own = "fabbuild/worker/deps/own_code.py"
    top = os.path.abspath(__file__)[: -len(own)]
    found: Dict[str, bytes] = {}
    for folder, _, names in os.walk(os.path.join(top, "fabbuild"), followlinks=True):
        for path in (os.path.join(folder, name) for name in names):
            name = os.path.relpath(path, top).replace(os.sep, "/")
            if _decides(name):
                with open(path, "rb") as file:
                    found[name] = file.read()
    return found
