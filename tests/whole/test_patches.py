"""`inv build --patches` from the command line: what it refuses, and the whole way from mails to a report."""

import json
import re
import subprocess

import pytest

from fabbuild.source.patches import record
from tests.support.repositories import git
from tests.whole.test_bad_input import one_line_error


@pytest.fixture
def mails(farm):
    """The sample's series as mails, on a machine with only ``main`` checked out."""
    farm.machines(local=True)
    place = farm.directory / "mails"
    git(farm.source, "format-patch", "-q", "--thread", "--cover-letter", "-v2", "-o", str(place), "main..series")
    cover = place / "v2-0000-cover-letter.patch"
    cover.write_text(cover.read_text().replace("*** SUBJECT HERE ***", "Fade the LED"))
    return place


def test_what_goes_not_together_is_refused_in_one_line(farm, mails):
    for arguments, words in {
        ("--patches", "mails", "--branch", "series"): "--branch and --patches both name what to build; give one",
        ("--patches", "mails", "--commits", "series"): "--commits and --patches both name what to build; give one",
        ("--onto", "series"): "--onto is about mails with patches, and none were named; give --patches too",
        ("--version", "2"): "--version is about mails with patches, and none were named; give --patches too",
        ("--patches", "mails", "--version", "3"): "--version 3: the mails have v2",
    }.items():
        ended = farm.build("--only", "tern", *arguments)
        assert one_line_error(ended, words) == [ended.err.strip()], ended
    ended = farm.build("--only", "tern", "--patches", "mails", "--dry-run", INVOKE_FABBUILD_BRANCH="series")
    assert (ended.status, ended.err) == (0, ""), ended
    assert str(farm.output / "Fade-the-LED-v2") in ended.out
    assert "1 board at 6 commits" in ended.out
    assert not farm.output.exists()


def test_standard_input_may_have_them(farm, mails):
    whole = b"".join(path.read_bytes() for path in sorted(mails.iterdir()))
    command = farm.command("build", "--source", str(farm.source), "--output", str(farm.output), "--dry-run")
    words = [*command, "--patches", "-", "--only", "tern"]
    ended = subprocess.run(words, cwd=farm.directory, env=farm.env, input=whole, capture_output=True, check=True)
    assert b"1 board at 6 commits" in ended.stdout


@pytest.mark.deep
def test_a_series_is_built_as_its_branch_is_and_told_of_in_the_same_way(farm, mails):
    before = git(farm.source, "for-each-ref"), git(farm.source, "status", "--porcelain=v2", "--branch")
    boards = ("--only", "sandbox_spl,tern")
    ended = farm.build(*boards, "--patches", "mails", "--summary", "--reply", "reply.eml")
    assert ended.status == 100, ended  # the second patch breaks sandbox_spl
    assert (git(farm.source, "for-each-ref"), git(farm.source, "status", "--porcelain=v2", "--branch")) == before
    assert re.search(r"\n\S+ .*5 patches, v2, on [0-9a-f]{12} \(HEAD\)\n", ended.out), ended.out
    reply = (farm.directory / "reply.eml").read_text()
    assert "\nSubject: Re: [PATCH v2 0/5] Fade the LED\n" in reply
    assert "\nThis series breaks 1 of 2 boards" in reply
    again = farm.run("reply", "--source", str(farm.source), "--output", str(farm.output), "--trailer")
    assert again.out == reply
    assert "there is no Tested-by: not all is well" in again.err
    kept = record.read(farm.output / "Fade-the-LED-v2" / ".fabbuild")
    assert (kept.first.subject, len(kept.patches)) == ("[PATCH v2 0/5] Fade the LED", 5)
    told = farm.run("summary", "--source", str(farm.source), "--output", str(farm.output), "--json")
    assert json.loads(told.out)["name"] == "Fade-the-LED-v2"
    branch = farm.build(*boards, "--branch", "series")
    assert branch.status == 100, branch
    assert "of these: 0 built, 12 reused" in branch.out
    name = ("--branch", "Fade-the-LED-v2")
    ended = farm.run("report", "--source", str(farm.source), "--output", str(farm.output), *name)
    assert ended.status == 0, ended
    status = farm.run("status", "--output", str(farm.output), *name)
    assert "12 results" in status.out, status
    # On another base it is the same directory, and what is no longer in it goes, as after a rebase.
    git(farm.source, "commit", "-q", "--allow-empty", "-m", "Another base")
    again = farm.build(*boards, "--patches", "mails", "--count", "2")
    assert again.status == 101, again
    # A branch of the name would remove the results of the series.
    git(farm.source, "branch", "Fade-the-LED-v2", "series")
    git(farm.source, "branch", "-u", "main", "Fade-the-LED-v2")
    ended = farm.build(*boards, *name)
    assert "holds the results of 'Fade-the-LED-v2, patches of " in ended.err, ended
