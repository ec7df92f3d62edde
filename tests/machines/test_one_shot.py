"""The commands that need no lock: what a machine is asked, and how its answers and failures are read."""

import json

import pytest

from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import BusyError, SetupError
from fabbuild.machines.one_shot import OneShot, describe_holder
from fabbuild.machines.transport.base import Completed
from fabbuild.protocol.wire import encode_response
from fabbuild.testing import FakeTransport


def machine(answers=None, search=None, **entry):
    return OneShot(Machine("m1", **entry), FakeTransport("m1", answers=answers), search or ToolchainSearch())


def request(one):
    """The JSON of the last command."""
    arguments = one.transport.asked[-1]
    return json.loads(arguments[arguments.index("--json") + 1])


def test_a_probe_asks_for_what_the_entry_and_the_search_name():
    search = ToolchainSearch(prefixes={"arm": "arm-"}, paths=("/opt/*",))
    one = machine(search=search, work_dir="/w", toolchains={"sh": "/sh-gcc"}, env={"PATH": "/p", "A": "b"})
    assert one.facts is None
    assert one.probe() is one.facts
    assert request(one) == {
        "work_dir": "/w", "toolchains": {"sh": "/sh-gcc"}, "prefixes": {"arm": "arm-"}, "paths": ["/opt/*"],
        "env": {"PATH": "/p"},
    }  # fmt: skip
    assert not one.identified
    one.probe(identify=True)
    assert request(one)["identify"] == {"PATH": "/p", "A": "b"}
    assert one.identified


def test_a_compiler_that_is_named_and_not_there_is_lacking_once_the_machine_was_probed():
    one = machine(toolchains={"arm": "/arm-gcc", "sh": "/sh-gcc"})
    assert one.lacking == {}
    one.probe()
    assert one.lacking == {"sh": "/sh-gcc"}


def test_a_check_is_asked_for_the_compilers_that_are_there():
    one = machine()
    one.probe()
    assert one.check(["arm", "sh"], "a" * 40, min_disk_mb=1, min_mem_mb=2).well
    asked = request(one)
    assert (asked["toolchains"].keys(), asked["commit"]) == ({"arm"}, "a" * 40)
    assert (asked["min_disk_mb"], asked["min_mem_mb"]) == (1, 2)


def answered(resp, **fields):
    return Completed(1, b"Welcome!\n" + encode_response(resp, **fields), b"")


@pytest.mark.parametrize(
    ("done", "kind", "words"),
    [
        (
            answered("busy", holder={"who": "ada", "host": "desk", "pid": 7}),
            BusyError,
            "BUSY: held by ada from desk",
        ),
        (answered("error", msg="no room"), SetupError, "no room"),
        (answered("killed", pids=[]), SetupError, r"clean failed there \(exit status 1\)"),
        (
            Completed(0, b"\n Hello \x1b\n", b""),
            SetupError,
            r"no answer came; it printed Hello \\x1b: does the login",
        ),
        (Completed(1, b"", b"one\n\ntwo\nthree\n"), SetupError, r"failed there \(exit status 1\): two \| three"),
        (Completed(97, b"", b""), SetupError, r"\(exit status 97\); python3 was not found there; install"),
    ],
)
def test_what_is_no_answer_is_told_by_what_it_is(done, kind, words):
    with pytest.raises(kind, match=words) as caught:
        machine({"clean": done}).clean()
    assert caught.value.machine == "m1"


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        ({}, "held by a process that did not say who it is"),
        ({"who": "ada", "pid": 3, "since": "long"}, "held by ada from ?, pid 3, since ?"),
        ({"since": 1e300}, "held by ? from ?, pid ?, since ?"),
    ],
)
def test_the_holder_of_a_lock_is_named_as_far_as_its_file_says(holder, words):
    assert describe_holder(holder) == words
