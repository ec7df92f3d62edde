"""The machine's side of fetching a toolchain: the real zipapp, with real archives on its stdin."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from fabbuild.protocol.wire import PREFIX
from fabbuild.worker.tools import unpack_archive as machine
from fabbuild.worker.tools.unpack_archive import UnpackError
from tests.support.census import HANG_LIMIT
from tests.support.supervised import old_python

NAME = "x86_64-gcc-13.2.0-nolibc-arm-linux-gnueabi"


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", mode: int = 0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), mode
    return info, data


def archive(*members, kind: str = "xz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


GOOD = (
    member("gcc/arm/bin/arm-linux-gcc", data=b"#!/bin/sh\n", mode=0o4755),
    member("gcc/arm/bin/arm-linux-cc", tarfile.SYMTYPE, "arm-linux-gcc"),
    member("gcc/arm/bin/arm-linux-gcc-13", tarfile.LNKTYPE, "gcc/arm/bin/arm-linux-gcc"),
    member("gcc/arm/lib", tarfile.DIRTYPE, mode=0o555),
    member("gcc/arm/lib/up", tarfile.SYMTYPE, "../bin/arm-linux-gcc"),
    member("gcc/arm/lib/table", data=b"x" * 100_000),
)


@pytest.fixture
def work(tmp_path):
    """A work directory that is not there yet, with a space and quotes in its name."""
    return tmp_path / "wo'r k\""


@pytest.fixture
def unpack(work, tmp_path):
    """Give an archive to the machine's side, in this process; gives what it answers, or raises."""

    def call(data: bytes, *, name: str = NAME, sha256: str = "", size: int | None = None, into: str = "toolchains"):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            length = len(data) if size is None else size
            digest = sha256 or hashlib.sha256(data).hexdigest()
            return machine.unpack(str(work), name, length, digest, file.fileno(), into)

    return call


def command(work, data: bytes, python: str = sys.executable, pyz="") -> list[str]:
    """Give the command line of the machine's side as a program."""
    digest = hashlib.sha256(data).hexdigest()
    return [
        python, str(pyz), "unpack", "--work-dir", str(work), "--name", NAME, "--size", str(len(data)), "--sha256", digest,
    ]  # fmt: skip


def left(work):
    """What is below the toolchains' directory, but the lock."""
    return [name for name in os.listdir(work / "toolchains") if name != ".lock"]


@pytest.mark.parametrize("kind", ["xz", "gz", "bz2"])
def test_an_archive_is_unpacked_with_its_links_and_without_its_rights(unpack, work, kind):
    place = work / "toolchains" / NAME
    assert unpack(archive(*GOOD, kind=kind)) == {"place": str(place), "already": False, "mb": 0}
    gcc = place / "gcc/arm/bin/arm-linux-gcc"
    assert gcc.stat().st_mode & 0o7777 == 0o755
    assert (place / "gcc/arm/bin/arm-linux-cc").resolve() == gcc
    assert (place / "gcc/arm/lib/up").resolve() == gcc
    assert (place / "gcc/arm/bin/arm-linux-gcc-13").samefile(gcc)
    assert (place / "gcc/arm/lib/table").stat().st_size == 100_000


def test_one_that_is_there_stays_as_it_is(unpack, work):
    unpack(archive(*GOOD))
    mark = work / "toolchains" / NAME / "mark"
    mark.touch()
    assert unpack(archive(*GOOD))["already"]
    assert mark.exists()


def test_of_files_that_builds_read_the_last_ones_stay_empty_ones_too_and_toolchains_stay(unpack, work):
    unpack(archive(*GOOD))
    unpack(archive(member("BL31/bl31.bin", data=b"x"), kind=""), name="one", into="files")
    unpack(archive(member("BL31/bl31.bin"), kind=""), name="two", into="files")
    assert [path.name for path in (work / "files").iterdir() if path.name != ".lock"] == ["two"]
    assert (work / "files" / "two" / "BL31" / "bl31.bin").read_bytes() == b""
    assert left(work) == [NAME]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member("../evil", data=b"x")], "leave the archive's directory"),
        ([member("gcc/../../evil", data=b"x")], "leave the archive's directory"),
        ([member("/tmp/evil", data=b"x")], "leave the archive's directory"),
        ([member("evil", tarfile.SYMTYPE, "../../../evil")], "leave the archive's directory"),
        ([member("evil", tarfile.SYMTYPE, "/etc/passwd")], "leave the archive's directory"),
        ([member("evil", tarfile.LNKTYPE, "../../secret")], "leave the archive's directory"),
        ([member("evil", tarfile.LNKTYPE, "/etc/passwd")], "leave the archive's directory"),
        ([member("evil", tarfile.LNKTYPE, "nothing")], "no file of the archive"),
        ([member("null", tarfile.CHRTYPE)], "neither a file"),
        ([member("disk", tarfile.BLKTYPE)], "neither a file"),
        ([member("pipe", tarfile.FIFOTYPE)], "neither a file"),
        # Through a link of its own, inside as it is.
        ([member("a/b", tarfile.DIRTYPE), member("l", tarfile.SYMTYPE, "a"), member("l/evil")], "no directory"),
        ([member("a", tarfile.SYMTYPE, "."), member("evil", tarfile.LNKTYPE, "a/b")], "no directory"),
        # Each link stays inside by its text, both together do not.
        (
            [
                member("p/q/r/x", tarfile.DIRTYPE),
                member("p/q/c", tarfile.SYMTYPE, "../.."),
                member("p/q/d", tarfile.SYMTYPE, "c/../x"),
            ],
            "leads out of it",
        ),
        ([member("twice", data=b"x"), member("twice", tarfile.SYMTYPE, "y")], "twice"),
        ([member("f", tarfile.SYMTYPE, "g"), member("f", data=b"x")], "twice"),
    ],
)  # fmt: skip
def test_what_would_leave_the_directory_is_refused_and_nothing_stays(unpack, work, tmp_path, members, words):
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(UnpackError, match=words):
        unpack(archive(*GOOD, *members))
    assert left(work) == []
    assert sorted(os.listdir(tmp_path)) == sorted(["secret", work.name])
    assert not os.path.exists("/tmp/evil")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: {"data": data, "sha256": "0" * 64}, "checksum is wrong"),
        (lambda data: {"data": data[: len(data) // 2], "size": len(data)}, "bytes too early"),
        (lambda data: {"data": data[: len(data) // 2]}, "cannot be unpacked"),
        (lambda data: {"data": b"no archive at all"}, "cannot be unpacked"),
        (lambda data: {"data": data, "name": "../evil"}, "cannot be the name"),
        (lambda data: {"data": data, "name": ".new-evil"}, "cannot be the name"),
    ],
    ids=["wrong checksum", "cut short on its way", "cut short", "no archive", "path for a name", "our own name"],
)
def test_what_is_no_whole_archive_is_refused_and_nothing_stays(unpack, work, change, words):
    with pytest.raises(UnpackError, match=words):
        unpack(**change(archive(*GOOD)))
    assert not (work / "toolchains").exists() or left(work) == []


def test_two_at_once_give_one_whole_toolchain(pyz, work, census):
    data = archive(*GOOD)
    pair = [
        subprocess.Popen(command(work, data, pyz=pyz), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    pair[0].stdin.write(data[:1000])
    pair[0].stdin.flush()
    # Both at once: whichever has the lock waits for the rest of its archive, the other for it.
    with ThreadPoolExecutor(2) as pool:
        outs = list(pool.map(lambda one, rest: one.communicate(rest)[0], pair, (data[1000:], data)))
    said = [json.loads(out[len(PREFIX) :]) for out in outs]
    assert sorted(one["already"] for one in said) == [False, True]
    assert left(work) == [NAME]


def test_what_a_killed_one_left_is_removed_by_the_next(unpack, work):
    stale = work / "toolchains/.new-stale/closed"
    stale.mkdir(parents=True)
    (stale / "file").touch()
    stale.chmod(0o500)
    unpack(archive(*GOOD))
    assert left(work) == [NAME]


def test_a_signal_in_the_middle_leaves_nothing(pyz, work, census):
    data = archive(*GOOD)
    one = subprocess.Popen(command(work, data, pyz=pyz), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    one.stdin.write(data[:100])
    one.stdin.flush()
    while not (work / "toolchains/.lock").exists() or not left(work):
        assert one.poll() is None
    one.terminate()
    out, _ = one.communicate(timeout=HANG_LIMIT)
    assert b'"error"' in out
    assert left(work) == []


def test_a_full_disk_is_told_in_words(small_disk, pyz):
    data = archive(member("big", data=bytes(8 << 20)))
    line = command(small_disk / "work", data, pyz=pyz)
    done = subprocess.run(line, input=data, capture_output=True, check=False)
    assert b"no room left in" in done.stdout
    assert done.stderr == b""
    assert left(small_disk / "work") == []


def test_the_oldest_python_unpacks_too(pyz, work):
    data = archive(*GOOD, kind="gz")
    line = command(work, data, old_python("3.8", "3.9"), pyz)
    done = subprocess.run(line, input=data, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert left(work) == [NAME]
