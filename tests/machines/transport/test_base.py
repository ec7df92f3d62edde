"""Commands on a machine that are fed from a file."""

import threading

from fabbuild.machines.transport import base
from fabbuild.machines.transport.base import Counted, pour
from fabbuild.testing import FakeChannel


def test_a_command_that_was_fed_is_over_when_its_outputs_end_and_not_when_their_readers_do(tmp_path, monkeypatch):
    """A thread lives on for a moment after what it does is done; that must not be waited for as if nothing came."""
    file = tmp_path / "archive"
    file.write_bytes(b"x" * 3)
    over = threading.Event()

    class Lingering(threading.Thread):
        def run(self):
            super().run()
            over.wait()

    monkeypatch.setattr(base.threading, "Thread", Lingering)
    taken, sent = [], []

    def hung_up():
        if not over.is_set():
            there.write(b"said")
            there.write(b"warned", stderr=True)
            there.end(3)

    there = FakeChannel(Counted("m1"), taken.append, hung_up)
    try:
        done = pour("m1", there, b"head", file, sent=sent.append, patience=0.2)
    finally:
        over.set()
    assert (done.status, done.stdout, done.stderr) == (3, b"said", b"warned")
    assert (b"".join(taken), sent) == (b"headxxx", [3])
