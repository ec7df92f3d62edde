"""Fetching toolchains: from a server on this machine, to this machine and to machines over SSH."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import FetchError
from fabbuild.files import digest_of
from fabbuild.machines.session import Session
from fabbuild.machines.session_group import SessionGroup
from fabbuild.machines.toolchains import download
from fabbuild.machines.toolchains.archives import ArchiveIndex, fetch, split_archs
from fabbuild.machines.toolchains.install import ToolchainRequest, fetch_for
from fabbuild.testing import FakeTransport
from tests.support.census import HANG_LIMIT, wait_until

HOST = os.uname().machine


class Silent:
    """Shows nothing of a transfer."""

    def say(self, text):
        pass

    def begin(self, what, size=0):
        return lambda done, size: None


@pytest.fixture
def get(mirror, tmp_path):
    """Choose one archive and get it: ``get("arm")`` gives (path, checksum, whether it was got now)."""

    def call(arch: str = "arm", silence: float = HANG_LIMIT, **more):
        catalogue = ArchiveIndex(mirror.url, silence=silence)
        (archive,) = catalogue.choose(HOST, [arch])
        return fetch(catalogue, archive, tmp_path / "cache", silence=silence, **more)

    return call


def chosen(mirror, *archs: str, version: str = "", host: str = HOST) -> list[tuple[str, str]]:
    return [(one.triplet, one.version) for one in ArchiveIndex(mirror.url).choose(host, archs, version)]


def nothing_half(tmp_path: Path) -> bool:
    cache = tmp_path / "cache"
    return not cache.exists() or not list(cache.iterdir())


# --- which archive --------------------------------------------------------------------------------------------


def test_the_newest_version_that_has_the_architecture_is_chosen(mirror):
    for version in ("9.5.0", "13.2.0", "10.1.0"):
        mirror.add(version=version)
    mirror.add("or1k-linux", "10.1.0")
    assert chosen(mirror, "arm", "or1k") == [("arm-linux-gnueabi", "13.2.0"), ("or1k-linux", "10.1.0")]
    assert chosen(mirror, "arm", version="10") == [("arm-linux-gnueabi", "10.1.0")]
    assert chosen(mirror, "all") == [("arm-linux-gnueabi", "13.2.0"), ("or1k-linux", "10.1.0")]


def test_an_architecture_of_ours_finds_the_triplet_that_serves_it(mirror):
    for triplet in ("x86_64-linux", "i386-linux", "riscv64-linux", "sh4-linux", "powerpc64-linux", "powerpc-linux"):
        mirror.add(triplet)
    for arch, triplet in (
        ("x86", "x86_64-linux"), ("i386", "i386-linux"), ("riscv", "riscv64-linux"), ("riscv32", "riscv64-linux"),
        ("sh", "sh4-linux"), ("powerpc", "powerpc-linux"),
    ):  # fmt: skip
        assert chosen(mirror, arch) == [(triplet, "13.2.0")], arch


def test_a_machine_of_another_kind_gets_what_runs_there(mirror):
    mirror.add(host="x86_64")
    mirror.add(host="arm64", version="12.1.0")
    assert chosen(mirror, "arm", host="aarch64") == [("arm-linux-gnueabi", "12.1.0")]
    with pytest.raises(FetchError, match="no toolchains that run on s390x; there are some for: arm64 x86_64"):
        chosen(mirror, "arm", host="s390x")


def test_what_there_is_none_of_is_told_with_what_there_is(mirror):
    mirror.add()
    mirror.add("or1k-linux", "9.1.0")
    with pytest.raises(FetchError, match=r"no toolchain for nios2 that runs on .*there are: arm or1k"):
        chosen(mirror, "arm", "nios2")
    with pytest.raises(FetchError, match=r"has no version 7; there are: 9.1.0 13.2.0"):
        chosen(mirror, "arm", version="7")


def test_links_of_a_listing_that_lead_elsewhere_are_no_archives(mirror):
    name = mirror.add()
    listing = mirror.directory("13.2.0", HOST) / "index.html"
    listing.write_text(
        f'<a href="{name}">1</a> <a href="../{name.replace("arm", "evil")}">2</a> <A class=x HREF=\'./{name}\'>3</A>'
        f'<a href="http://other.invalid/files/bin/{HOST}/13.2.0/{name.replace("arm", "far")}">4</a>'
        f'<a href="/etc/{name.replace("arm", "etc")}">5</a> <a href="%2e%2e%2f{name.replace("arm", "up")}">6</a>'
    )
    assert chosen(mirror, "all") == [("arm-linux-gnueabi", "13.2.0")]


@pytest.mark.parametrize("url", ["file:///etc", "ftp://a/b", "/etc", "https://", "http://a b/"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(FetchError, match="is not an address to fetch from"):
        ArchiveIndex(url)


@pytest.mark.parametrize("text", ["", ",", "../arm", "arm;rm", "list,arm"])
def test_names_that_are_no_architectures_are_refused(text):
    with pytest.raises(FetchError, match="--fetch: "):
        split_archs(text)


# --- getting it -----------------------------------------------------------------------------------------------


def test_an_archive_is_got_once(mirror, get):
    name = mirror.add()
    path, sha256, got = get()
    assert got
    assert digest_of(path) == sha256
    assert get() == (path, sha256, False)
    assert mirror.gets(name) == 1


def test_one_in_the_cache_that_is_not_what_it_should_be_is_got_anew(mirror, get):
    mirror.add()
    path, sha256, _ = get()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert get() == (path, sha256, True)
    assert digest_of(path) == sha256


def test_a_wrong_checksum_is_refused_and_nothing_stays(mirror, get, tmp_path):
    name = mirror.add()
    path = mirror.directory("13.2.0", HOST) / name
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(FetchError, match=r"its SHA-256 is [0-9a-f]{64}, and the list"):
        get()
    assert nothing_half(tmp_path)


def test_without_a_checksum_it_is_refused_but_when_told_otherwise(mirror, get, tmp_path):
    mirror.add(listed=False)
    with pytest.raises(FetchError, match=r"no checksum of it is in .*no sha256sums.asc.*--unchecked"):
        get()
    mirror.add("or1k-linux")
    with pytest.raises(FetchError, match=r"no checksum of it is in .*/sha256sums.asc"):
        get()
    assert nothing_half(tmp_path)
    path, sha256, got = get(unchecked=True)
    assert got
    assert digest_of(path) == sha256


def test_two_checksums_for_one_archive_are_none(mirror, get):
    name = mirror.add()
    with (mirror.directory("13.2.0", HOST) / "sha256sums.asc").open("a") as sums:
        sums.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(FetchError, match="no checksum of it"):
        get()


def test_a_lost_connection_is_taken_up_where_it_ended(mirror, get):
    name = mirror.add(padding=300_000)
    mirror.faults[name] = "cut once"
    seen = []
    path, sha256, _ = get(progress=lambda done, size: seen.append((done, size)))
    assert digest_of(path) == sha256
    assert mirror.gets(name) == 2
    assert seen == sorted(seen), "it did not begin anew"
    assert seen[-1] == (path.stat().st_size,) * 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cut", "ended after|closed|bytes"),
        ("gone", "404"),
        ("hang", "said nothing for 1 s"),
        ("cut and hang", "said nothing for 1 s"),
        ("to file:///etc/passwd", "302 .*not allowed"),
        ("to ftp://127.0.0.1/x", "which is not followed"),
    ],
)
def test_a_server_that_fails_is_told_and_nothing_stays(mirror, get, tmp_path, fault, words):
    name = mirror.add(padding=300_000)
    mirror.faults[name] = fault
    with pytest.raises(FetchError, match=words):
        get(silence=1 if "hang" in fault else HANG_LIMIT)
    assert nothing_half(tmp_path)


def test_a_server_that_is_not_there_is_told():
    with pytest.raises(FetchError, match=r"http://127.0.0.1:9/bin/: Connection refused"):
        chosen(type("Nowhere", (), {"url": "http://127.0.0.1:9"}), "arm")


def test_a_page_that_never_ends_is_not_read_for_ever(mirror, monkeypatch):
    mirror.add()
    monkeypatch.setattr(download, "MAX_PAGE", 100)
    with pytest.raises(FetchError, match="is longer than"):
        chosen(mirror, "arm")


def test_a_full_disk_is_told_in_words(mirror, tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    mirror.add()
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(FetchError, match="No space left on device"):
        download._fetch(f"{mirror.url}/bin/", full, lambda _done, _size: None, 1)


def test_two_at_once_get_it_once(mirror, get):
    name = mirror.add(padding=300_000)
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda _: get(), range(3)))
    assert sorted(got for _, _, got in outcomes) == [False, False, True]
    assert mirror.gets(name) == 1


# --- the whole way --------------------------------------------------------------------------------------------


def wrappers(triplet: str = "arm-linux-gnueabi") -> dict[str, str]:
    """Give an archive's programs that are this machine's own compiler, under other names."""
    real = sorted(Path("/usr/bin").glob("arm-linux-gnueabihf-*"))
    if not any(path.name.endswith("-gcc") for path in real):
        pytest.skip("no arm-linux-gnueabihf-gcc here")
    return {
        path.name.replace("arm-linux-gnueabihf", triplet): f'#!/bin/sh\nexec {path} "$@"\n' for path in real
    }  # fmt: skip


def test_what_was_fetched_on_ssh_machines_is_found_and_builds(ssh_farm, mirror):
    name = mirror.add(files=wrappers())
    ended = ssh_farm.run("toolchains", "--fetch", "arm", "--machines", "m1,m2", "--toolchain-url", mirror.url)
    assert ended.status == 0, ended
    assert mirror.gets(name) == 1, "got once, passed on twice"
    assert [line.split()[:2] for line in ended.out.splitlines()] == [["m1", "ok"], ["m2", "ok"]]
    assert "\x1b" not in ended.out + ended.err
    assert len(ended.err.splitlines()) == 3, "a line for the file and one a machine, no bars"
    listed = ssh_farm.run("toolchains", "--machines", "m1,m2")
    place = ssh_farm.servers[0].work_dir / "toolchains"
    # The compiler in PATH serves the same architecture; the one that was asked for goes before it.
    assert f"{place}/{name.removesuffix('.tar.xz')}/gcc-13.2.0-nolibc/arm-linux-gnueabi/bin/" in listed.out
    ended = ssh_farm.build("--only", "tern", "--machines", "m1")
    assert ended.status == 0, ended
    (board,) = (ssh_farm.output / "current").glob("tern")
    assert str(place) in (board / "toolchain").read_text() + (board / "out-cmd").read_text()
    again = ssh_farm.run(
        "toolchains", "--fetch", "arm", "--machines", "m1,m2", INVOKE_FABBUILD_TOOLCHAIN_URL=mirror.url
    )
    assert again.status == 0, again
    assert again.out.count("is there already") == 2
    assert again.err == ""
    assert mirror.gets(name) == 1


def test_missing_is_for_each_machine_what_it_lacks_and_another_has(mirror, tmp_path):
    mirror.add()
    asked, tool = {}, {"gcc": "/x-gcc"}

    def machine(name, *archs, fetched=()):
        def unpack(arguments):
            asked.setdefault(name, []).append(arguments[arguments.index("--name") + 1])
            return {}

        about = {"toolchains": dict.fromkeys(archs, tool), "arch": HOST, "fetched": list(fetched)}
        transport = FakeTransport(name, answers={"facts": about, "unpack": unpack})
        return Session(Machine(name), transport, ToolchainSearch())

    group = SessionGroup([machine("rich", "arm"), machine("poor", "sandbox")])
    wanted = ToolchainRequest(split_archs("missing"), mirror.url)
    done = fetch_for(group, wanted, Silent(), tmp_path / "cache")
    assert done["rich"] == "lacks no toolchain that another machine has"
    assert "arm-linux-gnueabi gcc 13.2.0 is in" in done["poor"]
    assert {name: len(taken) for name, taken in asked.items()} == {"poor": 1}


def test_on_this_machine_with_the_address_of_machines_yaml(farm, mirror):
    mirror.add()
    mirror.add("or1k-linux")
    farm.write_machines(
        {
            "machines": {"local": {"connection": "local", "work_dir": str(farm.directory / "work local")}},
            "toolchains": {"url": mirror.url},
        }
    )
    listed = farm.run("toolchains", "--fetch", "list")
    assert [line.split()[:3] for line in listed.out.splitlines()[1:]] == [
        ["arm", HOST, "13.2.0"],
        ["or1k", HOST, "13.2.0"],
    ]
    assert not (farm.directory / "work local").exists()
    dry = farm.run("--dry", "toolchains", "--fetch", "or1k")
    assert "would fetch or1k from " in dry.out
    assert not (farm.directory / "work local").exists()
    ended = farm.run("toolchains", "--fetch", "or1k")
    assert ended.status == 0, ended
    assert "or1k-linux-gcc (GCC) 13.2.0" in farm.run("toolchains").out


def test_an_archive_that_would_leave_its_directory_is_refused_there(farm, mirror):
    evil = tarfile.TarInfo("../../evil")
    mirror.add(members=[evil])
    farm.machines(local=True)
    ended = farm.run("toolchains", "--fetch", "arm", "--toolchain-url", mirror.url)
    assert ended.status == 1
    assert "FAILED" in ended.out
    assert "would leave the archive's directory" in ended.out
    assert not list(farm.directory.rglob("evil"))
    assert os.listdir(farm.directory / "work local/toolchains") == [".lock"]


def test_ctrl_c_in_the_middle_leaves_nothing_half(farm, mirror):
    name = mirror.add(padding=300_000)
    mirror.faults[name] = "cut and hang"
    farm.machines(local=True)
    process = farm.start("toolchains", "--fetch", "arm", "--toolchain-url", mirror.url)
    assert mirror.hung.wait(HANG_LIMIT)
    wait_until(lambda: list(farm.directory.rglob("*.part")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_LIMIT)
    assert process.returncode == 130, (out, err)
    assert not list(farm.directory.rglob("*.part"))


def test_a_machine_that_goes_while_it_gets_one_leaves_nothing_half(farm, mirror, tmp_path):
    """A cut connection is the end of the archive's stream; what came so far is removed there."""
    name = mirror.add(padding=300_000)
    data = (mirror.directory("13.2.0", HOST) / name).read_bytes()
    from fabbuild.machines.worker_zip import shell_memory, worker_program

    work = tmp_path / "work"
    line = shell_memory(
        ["unpack", "--work-dir", str(work), "--name", "one", "--size", str(len(data)), "--sha256", "0" * 64]
    )
    done = subprocess.run(
        ["sh", "-c", line], input=worker_program().data + data[:100_000], capture_output=True, check=False
    )
    assert b"bytes too early" in done.stdout
    assert os.listdir(work / "toolchains") == [".lock"]
