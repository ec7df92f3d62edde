"""The names that are published stay importable, whichever module has them now."""

import importlib
import inspect
import re
import subprocess
import sys

import pytest

import fabbuild
from tests.support.docs import page

#: By module: what examples of docs/embedding.md ever imported from there.
PUBLISHED = {
    "fabbuild.build": "make_plan run",
    "fabbuild.config": "Machine Machines ToolchainSearch load_machines select",
    "fabbuild.fleet": "Fleet",
    "fabbuild.hosts": "connection_for",
    "fabbuild.settings": "BuildSettings",
    "fabbuild.transport": "LocalTransport SshTransport",
    "fabbuild.tasks": "bisect boards build cache clean collection completion export history init kill probe push reply report"
    " start status summary toolchains version",
}


@pytest.mark.parametrize("module", PUBLISHED)
def test_what_was_published_can_be_imported_alone(module):
    code = f"from {module} import {', '.join(PUBLISHED[module].split())}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("module", PUBLISHED)
def test_a_published_name_is_no_module_of_another_meaning(module):
    for name in PUBLISHED[module].split():
        assert not inspect.ismodule(getattr(importlib.import_module(module), name))


def test_every_task_is_published():
    published = set(PUBLISHED["fabbuild.tasks"].split())
    assert published == {*fabbuild.ns.task_names} - {"kill-workers"} | {"collection"}


def meaning(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_page_has_every_published_name_and_says_what_it_is():
    rows = dict(re.findall(r"(?m)^\| `(fabbuild[\w.]+)`.* \| `([\w.]+)`.* \|$", page("embedding.md")))
    listed = {f"{module}.{name}" for module in PUBLISHED for name in PUBLISHED[module].split()}
    # One line stands for all tasks.
    assert rows.keys() == {name for name in listed if not name.startswith("fabbuild.tasks.")} | {
        "fabbuild.tasks.build"
    }
    assert [(name, same) for name, same in rows.items() if meaning(name) is not meaning(same)] == []
