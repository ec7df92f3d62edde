"""The names that are published stay importable, whichever module has them now."""

import importlib
import inspect
import subprocess
import sys

import pytest

import fabbuild

#: By module: what examples of docs/embedding.md ever imported from there.
PUBLISHED = {
    "fabbuild.build": "make_plan run",
    "fabbuild.config": "Machine Machines ToolchainSearch load_machines select",
    "fabbuild.fleet": "Fleet",
    "fabbuild.hosts": "connection_for",
    "fabbuild.settings": "BuildSettings",
    "fabbuild.transport": "LocalTransport SshTransport",
    "fabbuild.tasks": "boards build cache clean collection completion export history init kill probe push report start status"
    " summary toolchains version",
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
