"""One function for many items at once: results, limits, and the way out by an interrupt."""

import subprocess
import sys
import threading
import time

import pytest

from fabbuild.errors import ConnectError
from fabbuild.parallel import gather, start
from tests.support.census import HANG_LIMIT


def results(items, work, **how):
    return gather(start(items, work), cut=lambda: None, **how)


def test_results_stand_under_their_keys_in_the_order_given():
    def work(number):
        time.sleep(0.05 * (3 - number))
        if number == 1:
            raise ConnectError("b", "dead")
        return number * 10

    found = results({"a": 0, "b": 1, "c": 2}, work)
    assert list(found) == ["a", "b", "c"]
    assert (found["a"], found["c"]) == (0, 20)
    assert isinstance(found["b"], ConnectError)
    assert results({}, work) == {}


def test_each_outcome_is_told_as_soon_as_it_is_there_whoever_else_takes_long():
    told = {}
    go = threading.Event()

    def work(name):
        if name == "mute":
            assert go.wait(HANG_LIMIT), "nobody was told of the others"
        if name == "dead":
            raise ConnectError("dead", "dead")
        return name

    def tell(name, outcome):
        told[name] = outcome
        if {"quick", "dead"} <= told.keys():
            go.set()

    items = {name: name for name in ("mute", "quick", "dead")}
    assert results(items, work, told=tell) == told


def test_who_need_not_wait_for_the_slowest_does_not_and_it_goes_on():
    go = threading.Event()

    def work(name):
        if name == "slow":
            go.wait(HANG_LIMIT)
        if name == "dead":
            raise ConnectError("dead", "dead")
        return name

    shown = []
    begun = start({name: name for name in ("dead", "slow", "quick")}, work)
    found = gather(begun, cut=lambda: None, patience=lambda took: shown.append(took) or 0)
    assert found.keys() == {"dead", "quick"}
    assert len(shown) == 1, "only the first success counts"
    assert 0 <= shown[0] < HANG_LIMIT
    go.set()
    assert begun["slow"].result(HANG_LIMIT) == "slow"
    assert results({"slow": "slow", "quick": "quick"}, work).keys() == {"slow", "quick"}, "nobody set a limit"


def test_no_more_than_the_limit_run_at_once():
    running, most, lock = [0], [0], threading.Lock()
    meet = threading.Barrier(3)

    def work(_):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        meet.wait(HANG_LIMIT)
        time.sleep(0.02)
        with lock:
            running[0] -= 1

    gather(start(dict.fromkeys(range(12)), work, limit=3), cut=lambda: None)
    assert most[0] == 3


def test_an_interrupt_in_a_call_frees_the_others_and_drops_those_that_have_not_begun():
    cut = threading.Event()
    called = []

    def work(name):
        called.append(name)
        if name == "interrupted":
            raise KeyboardInterrupt
        assert cut.wait(HANG_LIMIT)

    calls = start({name: name for name in ("waits", "interrupted", "waits too", "never")}, work, limit=2)
    with pytest.raises(KeyboardInterrupt):
        gather(calls, cut=cut.set)
    assert cut.is_set()
    assert "never" not in called
    assert calls["never"].cancelled()
    assert calls["waits"].result(HANG_LIMIT) is None


DEAF = """
import threading
from fabbuild import parallel

def work(item):
    if item == "interrupted":
        raise KeyboardInterrupt
    threading.Event().wait()

parallel.CUT_GRACE = 0.1
try:
    parallel.gather(parallel.start({"deaf": "deaf", "interrupted": "interrupted"}, work), cut=lambda: None)
except KeyboardInterrupt:
    print("out")
"""


def test_a_call_that_cannot_be_freed_does_not_keep_the_process_from_ending():
    ended = subprocess.run(
        [sys.executable, "-c", DEAF], check=False, capture_output=True, text=True, timeout=HANG_LIMIT
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "out\n", "")
