"""Fingerprint those modules of the worker that decide what a build gives.

A result is reused only where the same code would make it again, so an edit of that code must void stored results.
An edit of a comment or a docstring must not: the fingerprint is made of each module's syntax tree, without
docstrings and line numbers.

The dump of a syntax tree differs between releases of Python. That costs nothing: the machine's Python is part of
its identity anyway (`fabbuild.worker.deps.fingerprint`).
"""

from __future__ import annotations

import ast
import hashlib
import os
import zipfile
from typing import Dict

#: What decides a build's result: whole packages, and the program's entry, which sets the umask. The other packages
#: look at a machine, clean it, or keep the worker running.
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
    """Return the source of each deciding module by its path, from the zipapp or directory that this program is.

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
        tree = ast.parse(modules[name], name)
        _drop_docstrings(tree)
        digest.update(b"%s\0%s\0" % (name.encode(), ast.dump(tree).encode()))
    return digest.hexdigest()


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]


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
