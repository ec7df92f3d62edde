"""The sessions that the tasks of one process share."""

from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.machines.session_pool import SessionPool, process_pool
from fabbuild.testing import FakeTransport


def sessions(pool, *machines):
    return pool.sessions(machines, ToolchainSearch(), lambda machine: FakeTransport(machine.name))


def test_a_machine_keeps_its_session_until_its_entry_changes_or_it_is_closed():
    pool = SessionPool()
    one, other = sessions(pool, Machine("a"), Machine("b"))
    one.init()
    assert sessions(pool, Machine("b"), Machine("a")) == [other, one]
    (changed,) = sessions(pool, Machine("a", threads=2))
    assert changed is not one
    assert one.closed, "it held the lock"
    changed.close()
    (again,) = sessions(pool, Machine("a", threads=2))
    assert again is not changed
    assert not other.closed


def test_closing_it_closes_all_sessions_and_begins_anew():
    pool = SessionPool()
    (one,) = sessions(pool, Machine("a"))
    one.init()
    assert pool.close() == []
    assert one.closed
    assert sessions(pool, Machine("a")) != [one]


def test_a_process_has_one():
    assert process_pool() is process_pool()
