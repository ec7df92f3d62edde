"""The lock of a machine, and the text of its file."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading

import pytest

from fabbuild.worker.base import lock


@pytest.mark.parametrize(
    "text", [b"", b'{"who": "m', b"\xff\xfe\0", b"[1, 2]\n", b"{}" + b"x" * 100000, b"[" * 60000]
)
def test_a_torn_lock_file_is_read_as_nothing(tmp_path, text):
    (tmp_path / "lock").write_bytes(text)
    assert lock.read_holder(str(tmp_path)) == {}


def test_the_rest_of_a_longer_text_does_not_disturb(tmp_path):
    (tmp_path / "lock").write_bytes(b'{"who": "new"}\n"host": "what stood there before"}\n')
    assert lock.read_holder(str(tmp_path)) == {"who": "new"}


def test_a_lock_file_that_is_a_link_or_a_pipe_is_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        lock.take(str(tmp_path))
    (tmp_path / "lock").unlink()
    os.mkfifo(tmp_path / "lock")
    assert lock.read_holder(str(tmp_path)) == {}


def test_the_lock_lives_as_long_as_one_who_inherited_it(tmp_path, census):
    held = lock.take(str(tmp_path))
    heir = subprocess.Popen(["sleep", "1001"], pass_fds=[held.fd])
    held.close()
    assert lock.take(str(tmp_path)) is None
    heir.kill()
    heir.wait()
    again = lock.take(str(tmp_path))
    assert again is not None
    again.close()


def test_the_locks_descriptor_is_out_of_the_way_of_scripts(tmp_path):
    held = lock.take(str(tmp_path))
    assert held.fd >= lock.HIGH_FD
    assert not os.get_inheritable(held.fd)
    held.close()


def test_a_file_removed_between_opening_and_locking_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    path, real = tmp_path / "lock", fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: (path.unlink(), monkeypatch.undo(), real(fd, how)))
    held = lock.take(str(tmp_path))
    assert held.identity() == (path.stat().st_dev, path.stat().st_ino)
    assert lock.take(str(tmp_path)) is None
    held.close()


def test_who_took_the_lock_a_moment_ago_is_named_not_who_had_it_before(tmp_path):
    (tmp_path / "lock").write_text('{"who": "before", "supervisor": 4194305}\n')  # no pid is that high
    held = lock.take(str(tmp_path))
    writer = threading.Timer(0.1, held.write, [{"who": "now"}])
    writer.start()
    assert lock.holder_when_busy(str(tmp_path))["who"] == "now"
    writer.join()
    held.close()
