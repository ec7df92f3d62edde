"""Standard output that takes no more: a full disk is told and fails the task, a reader that has gone is passed over."""

import os

import pytest

from tests.support.census import HANG_LIMIT
from tests.support.farm import Ended

FULL = "/dev/full"

pytestmark = pytest.mark.skipif(not os.path.exists(FULL), reason="there is no /dev/full here")

TASKS = {
    "boards": ["boards"],
    "boards as JSON": ["boards", "--json"],
    "fields": ["boards", "--fields", "target"],
    "history": ["history"],
    "cache": ["cache", "--json"],
    "completion": ["completion", "--shell", "bash"],
    "toolchains": ["toolchains"],
    "probe": ["probe", "--json"],
    "a plan": ["--dry", "build"],
}


def into(farm, arguments, stdout):
    words = farm.command(*arguments)
    return Ended(*farm.forker.run(words, str(farm.directory), farm.env, HANG_LIMIT, stdout))


def into_full(farm, arguments):
    with open(FULL, "w") as full:
        return into(farm, arguments, full.fileno())


@pytest.mark.parametrize("name", TASKS)
def test_a_full_disk_is_told_in_one_line_and_fails_the_task(farm, name):
    farm.machines(local=True)
    farm.env["INVOKE_FABBUILD_SOURCE"] = str(farm.source)
    ended = into_full(farm, TASKS[name])
    assert ended.status == 1, ended
    assert ended.err == ("fabbuild: standard output: No space left on device; the output is incomplete\n"), ended


def test_a_build_whose_lines_are_lost_goes_on_and_says_at_the_end_why_it_is_no_success(farm):
    farm.machines(local=True)
    ended = into_full(
        farm, ["build", "--source", str(farm.source), "--output", str(farm.output), "--only", "sandbox", "--json"]
    )
    assert ended.status == 1, ended
    assert ended.err.splitlines() == [
        "fabbuild: nothing more is shown (No space left on device); the run goes on, see boss.log",
        "fabbuild: standard output: No space left on device; the output is incomplete",
    ]
    assert list(farm.directory.rglob("sandbox/done")), "it was built"


@pytest.mark.parametrize("name", ["boards", "boards as JSON", "completion"])
def test_a_reader_that_has_gone_is_no_trouble(farm, name):
    farm.env["INVOKE_FABBUILD_SOURCE"] = str(farm.source)
    reader, writer = os.pipe()
    os.close(reader)
    ended = into(farm, TASKS[name], writer)
    os.close(writer)
    assert (ended.status, ended.err) == (0, "")
