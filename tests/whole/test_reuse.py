"""Builds of the sample again: nothing is built that was built before, and nothing is reused that is not the same."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess

import pytest

from tests.support.census import HANG_LIMIT, wait_until
from tests.support.scenes import last_run
from tests.support.trouble import tool

BOARD = ("--only", "wren", "--count", "2")


@pytest.fixture
def local(farm):
    farm.machines(local=True)
    return farm


def git(farm, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=b@c"]
    subprocess.run(["git", "-C", str(farm.source), *identity, *arguments], check=True, capture_output=True)


def counts(farm, name="series"):
    """Give how many results of the last run were built, carried forward and reused."""
    end = [event for event in farm.journal(name) if event["what"] == "run-end"][-1]["data"]["counts"]
    done = end["built"] + end["warned"] + end["failed"]
    return done - end["carried"] - end["reused"], end["carried"], end["reused"]


def again(farm, *arguments, **env):
    """Delete all results and build again."""
    shutil.rmtree(farm.output, ignore_errors=True)
    return farm.build(*arguments, **env)


def store_of(farm):
    return farm.directory / "cache" / "fabbuild" / "store.sqlite3"


def test_what_was_built_before_comes_back_on_any_branch_and_nobody_is_started(local):
    series = ("--branch", "series", "--only", "sandbox_spl")
    first = local.build(*series)
    assert first.status == 100, first
    built, carried, reused = counts(local)
    assert (built + carried, reused) == (6, 0)
    before = local.run("summary", "--source", str(local.source), "--output", str(local.output)).out
    second = again(local, *series)
    assert second.status == 100, second
    assert "of these: 0 built, 6 reused" in second.out
    assert "FAILED sandbox_spl @ 03" in second.out
    told = local.journal("series")
    assert counts(local) == (0, 0, 6)
    assert not [event for event in told if event["what"] == "phase" and event["data"]["phase"] != "probe"]
    assert local.run("summary", "--source", str(local.source), "--output", str(local.output)).out == before
    for place in local.results("series").values():
        assert json.loads((place / "built-from").read_text())["reused"]["machine"] == "local"

    # The same, upon an upstream whose README has other words: the failure's tree is another one.
    git(local, "checkout", "-q", "-b", "words", "main")
    (local.source / "README").write_text("other words\n")
    git(local, "commit", "-qam", "words")
    git(local, "checkout", "-q", "-b", "rebased", "series")
    git(local, "rebase", "-q", "--onto", "words", "main")
    git(local, "branch", "-q", "-u", "words", "rebased")
    rebased = local.build("--branch", "rebased", "--only", "sandbox_spl")
    assert rebased.status == 100, rebased
    assert counts(local, "rebased") == (1, 0, 5), "only what failed"

    # A header that it reads.
    header = local.source / "include" / "common.h"
    header.write_text(header.read_text() + "\n/* another */\n")
    git(local, "commit", "-qam", "header")
    local.build("--branch", "rebased", "--only", "sandbox_spl")
    assert counts(local, "rebased") == (1, 0, 0)

    looked = local.run("cache", "--json")
    told = json.loads(looked.out)
    assert told["results"] >= 5
    assert told["brought"] == 11
    assert local.run("--dry", "cache", "--clear").status == 0
    assert store_of(local).exists()
    assert local.run("cache", "--trim", "0").status == 0
    assert json.loads(local.run("cache", "--json").out)["results"] == 0
    assert local.run("cache", "--clear").status == 0
    assert not store_of(local).exists()


@pytest.mark.skipif(bool(shutil.which("powerpc-linux-gnu-gcc")), reason="it takes an architecture without compiler")
def test_no_machine_is_started_for_what_none_can_build(local):
    boards = ("--only", "wren,osprey", "--branch", "series", "--count", "1")
    assert local.build(*boards).status == 102
    second = again(local, *boards)
    assert second.status == 102, second
    assert "of these: 0 built, 1 reused" in second.out
    assert "osprey: no machine has a toolchain for powerpc" in second.out
    assert "not needed: local: no toolchain for powerpc" in second.out
    told = local.journal("series")
    assert not [event for event in told if event["what"] == "phase" and event["data"]["phase"] != "probe"]


@pytest.mark.deep
def test_another_environment_is_built_anew_and_so_is_all_when_that_is_asked_for(local):
    local.build(*BOARD)
    name = "main"
    assert counts(local, name)[2] == 0
    for options in (("--no-reuse",), ("--force",)):
        assert again(local, *BOARD, *options).status == 0
        assert counts(local, name)[2] == 0, options
    local.machines(local=True, env={"SOME": "thing"})
    again(local, *BOARD)
    assert counts(local, name)[2] == 0
    again(local, *BOARD)
    assert counts(local, name)[::2] == (0, sum(counts(local, name))), "and by the same once more it is not"


@pytest.mark.deep
@pytest.mark.parametrize("trouble", ["broken", "a directory", "locked"])
def test_a_store_that_cannot_be_used_is_said_once_and_the_build_goes_on(local, trouble):
    store = store_of(local)
    store.parent.mkdir(parents=True, exist_ok=True)
    if trouble == "broken":
        store.write_bytes(b"no database at all, but long enough for one" * 200)
    elif trouble == "a directory":
        store.mkdir()
    held = None
    if trouble == "locked":
        held = sqlite3.connect(store, isolation_level=None)
        held.execute("PRAGMA locking_mode=EXCLUSIVE")
        held.execute("BEGIN EXCLUSIVE")
    try:
        ended = local.build(*BOARD)
    finally:
        if held:
            held.close()
    assert ended.status == 0, ended
    assert ended.out.count("store.sqlite3: the store of results") == 1, ended.out
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.deep
def test_an_audit_finds_what_a_build_does_not_give_and_the_store_loses_it(local):
    local.build(*BOARD)
    well = again(local, *BOARD, "--audit-reuse", "1")
    assert well.status == 0, well
    told = [event["data"] for event in local.journal("main") if event["what"] == "audit"]
    assert [one["differs"] for one in told if "reused" in one] == [[]]
    assert not any(one["differs"] for one in told)
    from fabbuild.results.reuse.store import Store, StoreEntry

    with Store.open(store_of(local)) as store:
        rows = store._db.execute("SELECT id FROM result").fetchall()
        for (number,) in rows:
            names = [key for (key,) in store._db.execute("SELECT key FROM name WHERE result=?", (number,))]
            told = json.loads(store.document(number))
            told["stderr"] = "warning: nobody said this\n"
            digests = [bytes.fromhex(digest) for digest in told["files"].values()]
            contents = {digest: store.content(digest) for digest in digests}
            store.put([StoreEntry(tuple(names), json.dumps(told).encode(), contents)])
    lied = again(local, *BOARD, "--audit-reuse", "2")
    assert lied.status == 103, lied
    assert "a reused result differs from a new build: err differ" in lied.out
    (kept, *_) = (local.output / "main" / ".fabbuild" / "audit").glob("*/wren/err")
    assert kept.read_text() == "warning: nobody said this\n"
    honest = again(local, *BOARD)
    assert honest.status == 0, "what was found to be wrong is gone"


def test_an_audit_finds_what_differs_for_what_it_was_built_upon(local):
    sandbox = ("--only", "sandbox")
    assert local.build(*sandbox, "--audit-reuse", "5").status == 0
    assert not [event for event in local.journal("current") if event["what"] == "audit"], "it was from nothing"
    (place,) = local.directory.glob("work local/slots/**/board/sandbox/board.o")
    times = place.stat().st_atime_ns, place.stat().st_mtime_ns
    more = ["-x", "c", "-c", "-o", str(local.directory / "more.o"), "-"]
    subprocess.run(["gcc", *more], input=b"int more[1000] = {1};\n", check=True)
    subprocess.run(["ld", "-r", "-o", local.directory / "both.o", place, local.directory / "more.o"], check=True)
    shutil.copyfile(local.directory / "both.o", place)
    os.utime(place, ns=times)
    (local.source / "arch/sandbox/cpu/sandbox/cpu.c").open("a").write("\nint another;\n")

    found = local.build(*sandbox, "--audit-reuse", "5")
    assert found.status == 103, found
    assert "a result built upon what was there differs from a new build: " in found.out
    assert "exit status 103: a result that was reused, or built upon another, differs from a new build" in found.out
    (told,) = [event["data"] for event in local.journal("current") if event["what"] == "audit"]
    assert "sizes" in told["differs"]
    assert told["origin"] == "built upon what was there"
    assert "reused" not in told

    (local.source / "arch/sandbox/cpu/sandbox/cpu.c").open("a").write("\nint one_more;\n")
    honest = local.build(*sandbox, "--audit-reuse", "5")
    assert honest.status == 0, honest
    assert [
        event["data"]["differs"] for event in last_run(local.journal("current")) if event["what"] == "audit"
    ] == [[]]


@pytest.mark.deep
def test_what_was_in_before_an_interrupt_is_reused(local):
    hold = local.directory / "hold"
    hold.touch()
    # The board that is second does not come to its end.
    wait = (
        "for board; do case $board in *_defconfig)\n"
        f"[ -e {hold}.not ] || echo $board >{hold}.not\n"
        f'[ $board = "$(cat {hold}.not)" ] || while [ -e {hold} ]; do sleep 0.1; done\n'
        ';; esac; done\nexec {real} "$@"'
    )
    local.machines(local=True, env=tool(local.directory / "tools", "make", wait))
    command = ("build", "--source", str(local.source), "--output", str(local.output), "--branch", "series")
    running = local.start(*command, "--only", "wren,robin", "--threads", "1")
    wait_until(lambda: any(event["what"] == "board-done" for event in local.journal("series")))
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=HANG_LIMIT)
    assert running.returncode == 130
    done = len(local.results("series"))
    hold.unlink()
    again(local, "--branch", "series", "--only", "wren,robin")
    assert counts(local)[2] >= done - 1
