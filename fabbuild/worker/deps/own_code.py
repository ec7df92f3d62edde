"""Fingerprint the worker's own code, as far as it decides what a build gives.

A result is reused only where the same code would make it again, so an edit of that code must void stored results.
An edit of a comment or a docstring must not: what is hashed is each module's syntax tree without docstrings. Line
numbers are no part of it.

The dump of a syntax tree differs between releases of Python. That costs nothing: the machine's Python is part of
its identity anyway (`fabbuild.worker.deps.fingerprint`).
"""

from __future__ import annotations

import ast
import hashlib
import os
import zipfile
from typing import Dict

#: Packages whose modules decide what a build gives. The others look at a machine, clean it, or hold its lock.
DECIDING = (
    "fabbuild/protocol/",
    "fabbuild/worker/base/",
    "fabbuild/worker/build/",
    "fabbuild/worker/deps/",
    "fabbuild/worker/service/",
    "fabbuild/worker/source/",
    "fabbuild/worker/tools/",
)


def deciding_modules() -> Dict[str, bytes]:
    """Return the source of each deciding module by its path, from the zipapp or the directory we run from.

    Raises:
        OSError: the modules cannot be read.
    """
    archive = getattr(globals().get("__loader__"), "archive", None)
    return _in_archive(str(archive)) if archive else _in_directory()


def code_digest(modules: Dict[str, bytes]) -> str:
    """Return the digest of modules by what they mean, in hex.

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
    top = os.path.dirname(os.path.abspath(__file__))
    for _ in range(3):
        top = os.path.dirname(top)
    found: Dict[str, bytes] = {}
    for package in DECIDING:
        for entry in os.listdir(os.path.join(top, package)):
            if entry.endswith(".py"):
                with open(os.path.join(top, package, entry), "rb") as file:
                    found[package + entry] = file.read()
    return found
