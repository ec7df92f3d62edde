"""The queue of what other threads have to tell the dispatcher."""

import threading

from fabbuild.build.inbox import BringUpFailed, Inbox, Interrupt, Tell
from fabbuild.event_types import Note
from tests.support.census import HANG_LIMIT


def test_messages_come_in_the_order_they_were_put():
    inbox = Inbox(lambda: 5.0)
    inbox.put(BringUpFailed("m1", "no way"))
    inbox.tell(Note(), "m2", "a word")
    assert inbox.get() == BringUpFailed("m1", "no way")
    told = inbox.get()
    assert isinstance(told, Tell)
    assert (told.event.time, told.event.payload, told.event.machine, told.event.text) == (
        5.0,
        Note(),
        "m2",
        "a word",
    )
    assert inbox.get() is None
    assert inbox.get(0.01) is None


def test_who_waits_gets_what_another_thread_puts():
    inbox = Inbox()
    threading.Timer(0.05, inbox.put, [BringUpFailed("m1", "no way")]).start()
    assert inbox.get(HANG_LIMIT) == BringUpFailed("m1", "no way")


def test_an_interrupt_is_seen_before_it_is_handled():
    inbox = Inbox()
    inbox.put(BringUpFailed("m1", "no way"))
    inbox.interrupt("enough")
    assert inbox.interrupted == "enough"
    assert [inbox.get(), inbox.get()] == [BringUpFailed("m1", "no way"), Interrupt("enough")]
