"""Options that take lists may be given more than once, and mean then what one list with commas does."""

import logging
import re

import pytest

from fabbuild.cli.complete import candidates


@pytest.fixture
def listing(farm):
    farm.env["INVOKE_FABBUILD_SOURCE"] = str(farm.source)

    def listed(*arguments, **env):
        ended = farm.run("boards", "--fields", "target", *arguments, **env)
        assert ended.status == 0, ended
        return ended.out.split()

    return listed


def test_boards_are_those_of_all_that_were_given(listing):
    assert listing("--boards", "tern", "--boards", "arm & egret") == ["egret", "tern"]
    assert listing("--only", "tern,wren", "--only", "egret") == ["egret", "tern", "wren"]
    assert listing("--boards", "arm", "-x", "tern", "--exclude", "egret,heron", "-x", "dunlin") == ["plover"]


def test_an_empty_one_is_not_given_and_leaves_the_configurations(listing):
    assert listing("--only", "", INVOKE_FABBUILD_ONLY="tern") == ["tern"]
    assert listing("--only", "wren", "--only", "", INVOKE_FABBUILD_ONLY="tern") == ["wren"]


def test_machines_are_those_of_all_that_were_given(farm):
    farm.write_machines(
        {"machines": {name: {"connection": "local", "work_dir": str(farm.directory / name)} for name in "abc"}}
    )
    ended = farm.run("--dry", "init", "--machines", "a", "--use-machines", "c")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["a", "c"], ended
    ended = farm.run("--dry", "init", "--hosts", "one", "--hosts", "two,three")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["one", "two", "three"], ended


def test_tasks_that_look_at_results_take_them_so_too(farm):
    farm.machines(local=True)
    assert farm.build("--only", "tern", "--only", "sandbox").status == 0
    ended = farm.run("history", "--boards", "tern", "--boards", "sandbox")
    assert [line.split()[0] for line in ended.out.splitlines()[1:]] == ["sandbox", "tern"], ended
    ended = farm.run("summary", "--output", str(farm.output), "--board", "tern", "--boards", "sandbox")
    assert ended.status == 0, ended


def test_a_python_caller_gives_a_text_as_before(farm, monkeypatch, capsys):
    from invoke.context import Context

    from fabbuild.cli.tasks import boards, default_configuration

    monkeypatch.setenv("XDG_CACHE_HOME", farm.env["XDG_CACHE_HOME"])
    # A task has warnings shown to its user from then on; the tests after this one ask for them in another way.
    logger = logging.getLogger("fabbuild")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    context = Context()
    context.config["fabbuild"] = default_configuration()
    boards(context, source=str(farm.source), only="tern,wren", fields="target")
    assert capsys.readouterr().out.split() == ["tern", "wren"]


def test_help_says_so(farm):
    text = " ".join(farm.run("--help", "build").out.split())
    assert re.search(r"Exact names of boards, separated by commas; .*; may be given more than once", text)


def test_the_second_one_is_completed_as_the_first(farm):
    words = ["build", "--source", str(farm.source), "--only", "tern", "--only", "wr"]
    assert candidates("bash", words, farm.directory, {}) == ["wren"]
