"""What does not grow for ever: result trees here, and what builds leave on machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fabbuild.cli.disk_usage import on_machines, parse_age, remove_tree, result_trees
from fabbuild.errors import OutputError, UsageError
from fabbuild.machines.messages import UsedPart, WorkDirUsage
from fabbuild.results.tree import ResultTree

COMMIT = "01_g0123456789abcdef_Subject"


@pytest.fixture
def output(tmp_path):
    """An output directory with a tree of ours, one of another program's, and what is nobody's business."""
    out = tmp_path / "out"
    for name in (
        f"series/{COMMIT}/sandbox/done", "series/.fabbuild/journal.ndjson", "series/.fabbuild/lock", "series/notes",
        f"theirs/{COMMIT}/tern/done", "current/sandbox/done", "current/.fabbuild/lock", "current/mine/file",
        "thesis/chapter", f"{COMMIT}/done",
    ):  # fmt: skip
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("0\n" * 5000)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").touch()
    (out / "alias").symlink_to(out / "series")
    (out / "series" / f"02{COMMIT[2:]}").symlink_to(tmp_path / "outside")
    (out / f"series/{COMMIT}/sandbox/link").symlink_to(tmp_path / "outside")
    return out


def found(output, name="", **more):
    return {Path(usage.path).name: usage.goes for usage in result_trees(output, name, **more)}


def test_the_trees_are_those_that_fabbuild_or_its_peer_wrote(output):
    assert found(output) == {"series": True, "theirs": True, "current": True}
    assert found(output, "series") == {"series": True}
    with pytest.raises(OutputError, match="is not a directory of results"):
        found(output, "thesis")
    assert found(output / "nowhere") == {}


def test_only_what_is_ours_is_removed_and_no_link_is_followed(output, tmp_path):
    for usage in result_trees(output):
        assert remove_tree(Path(usage.path)) > 0
    left = sorted(str(path.relative_to(output)) for path in output.rglob("*"))
    assert left == sorted(
        [
            "thesis", "thesis/chapter", COMMIT, f"{COMMIT}/done", "alias", "current", "current/mine",
            "current/mine/file", "series", "series/notes", f"series/02{COMMIT[2:]}",
        ]
    )  # fmt: skip
    assert (tmp_path / "outside/precious").exists()


def test_a_tree_that_another_fabbuild_works_in_stays(output):
    tree = ResultTree(output, "series", ())
    tree.lock()
    with pytest.raises(OutputError, match=f"another fabbuild works in .*pid {os.getpid()}"):
        remove_tree(output / "series")
    assert (output / "series" / COMMIT / "sandbox/done").exists()
    tree.close()


def test_who_waited_for_the_lock_of_a_removed_tree_begins_anew(output, monkeypatch):
    """The lock file is removed between another's open and its flock: it must not hold a lock on nothing."""
    tree, other = ResultTree(output, "theirs", ()), ResultTree(output, "theirs", ())
    take = other._take_lock

    def removed_meanwhile():
        fd = take()
        (output / "theirs/.fabbuild/lock").unlink(missing_ok=True)
        monkeypatch.setattr(other, "_take_lock", take)
        return fd

    monkeypatch.setattr(other, "_take_lock", removed_meanwhile)
    other.lock()
    with pytest.raises(OutputError, match="another fabbuild works"):
        tree.lock()
    other.close()


def test_an_age_keeps_what_was_written_since(output):
    for path in sorted((output / "series").rglob("*"), reverse=True):
        os.utime(path, (1, 1), follow_symlinks=False)
    os.utime(output / "series", (1, 1))
    (output / "series/.fabbuild/lock").write_text("who looked at it last is nobody's use of it")
    os.utime(output / "series/.fabbuild", (1, 1))
    assert found(output, older=3600) == {"series": True, "theirs": False, "current": False}
    (output / f"series/{COMMIT}/sandbox").touch()
    assert not found(output, older=3600)["series"]


def test_output_directories_of_a_machine_are_one_line_for_those_that_go_and_one_for_those_that_stay():
    parts = [UsedPart("output", f"/w/slots/.outputs/b{n}", mb=40, age=100 * n, goes=n > 2) for n in range(1, 6)]
    found = on_machines({"m1": WorkDirUsage("/w", tuple(parts)), "m2": OSError("away")})
    assert [(usage.what, usage.path, usage.bytes, usage.age, usage.goes) for usage in found] == [
        ("2 outputs", "/w/slots/.outputs/*", 80 * 1024 * 1024, 100, False),
        ("3 outputs", "/w/slots/.outputs/*", 120 * 1024 * 1024, 300, True),
    ]


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43200), ("3d", 259200), (" 2 w ", 1209600)])
def test_ages(text, seconds):
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "d", "-1d", "3 days", "1.5d", "9999999d", "3D"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(UsageError, match="is not an age"):
        parse_age(text)


# --- the whole way --------------------------------------------------------------------------------------------


def test_results_and_what_is_on_the_machines_are_shown_and_removed(ssh_farm, census):
    ended = ssh_farm.build("--only", "sandbox", "--machines", "m1", "--max-boards", "1")
    assert ended.status == 0, ended
    results = ["clean", "--results", "--output", str(ssh_farm.output)]
    for refused in (results, ["--dry", *results, "--yes"], [*results, "--older-than", "1h", "--yes"]):
        ended = ssh_farm.run(*refused)
        assert "current" in ended.out, ended
        assert "in all, of which" in ended.out
        assert (ssh_farm.output / "current/sandbox/done").exists()
        assert ended.status == (1 if refused is results else 0)
    ended = ssh_farm.run(*results, "--yes")
    assert ended.status == 0, ended
    assert "freed" in ended.out
    assert not (ssh_farm.output / "current").exists()
    work_dir = ssh_farm.servers[0].work_dir
    ended = ssh_farm.run("--dry", "clean", "--machines", "m1")
    assert [line.split()[0] for line in ended.out.splitlines()[1:4]] == ["1", "source", "1"], ended
    ended = ssh_farm.run("clean", "--machines", "m1", "--older-than", "1h", "--yes")
    assert ended.status == 0, ended
    assert (work_dir / "slots/00").exists()
    ended = ssh_farm.run("clean", "--machines", "m1", "--yes")
    assert ended.status == 0, ended
    assert "MB freed, 0 MB left" in ended.out
    assert not work_dir.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--older-than", "soon"], "is not an age"),
        (["--branch", "series"], "goes with --results"),
        (["--results", "--toolchains"], "removes nothing on machines"),
    ],
)
def test_what_does_not_go_together_is_refused(farm, arguments, words):
    ended = farm.run("clean", *arguments)
    assert ended.status == 1
    assert words in ended.err
