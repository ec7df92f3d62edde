"""The host-key policy is OpenSSH's accept-new; where it can say, `ssh-keygen` is the judge of our reading."""

from __future__ import annotations

import base64
import fcntl
import logging
import shutil
import subprocess
import threading

import pytest

from fabbuild.errors import ConnectError, HostKeyError
from fabbuild.machines.transport import host_keys
from fabbuild.machines.transport.host_keys import (
    HostKeyOptions,
    HostKeyPolicy,
    fingerprint,
    hash_name,
    read_entries,
)

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Public keys by name: (kind, base64 text, bytes)."""
    base = tmp_path_factory.mktemp("keys")
    made = {}
    for name, kind in (("ed1", "ed25519"), ("ed2", "ed25519"), ("ec1", "ecdsa")):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", base / name], check=True)
        algorithm, text, _ = (base / f"{name}.pub").read_text().split(None, 2)
        made[name] = (algorithm, text, base64.b64decode(text))
    return made


@pytest.fixture
def known_hosts(tmp_path):
    return tmp_path / "known_hosts"


def policy(known_hosts, host="box", port=22, **options):
    return HostKeyPolicy("m1", host, port, HostKeyOptions(user_files=[str(known_hosts)], **options))


def check(judge, key):
    judge.check(key[0], key[2])


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("box", "box"),
        ("box,10.0.0.1", "10.0.0.1"),
        ("BOX", "box"),
        ("b?x", "box"),
        ("*.lab,!bad.lab", "good.lab"),
        ("*.lab,!bad.lab", "bad.lab"),
        ("!bad.lab,*.lab", "bad.lab"),
        ("[box]:2222", "[box]:2222"),
        ("[box]:2222", "box"),
        ("box", "[box]:2222"),
        ("[*]:2222", "[box]:2222"),
        ("*", "[box]:2222"),
        ("bo", "box"),
        ("b.x", "box"),
        ("[bo]x", "ox"),
        ("::1", "::1"),
    ],
)
def test_names_match_as_ssh_keygen_says(known_hosts, keys, field, name):
    known_hosts.write_text(f"{field} {keys['ed1'][0]} {keys['ed1'][1]} a comment\n")
    judged = subprocess.run(["ssh-keygen", "-F", name, "-f", known_hosts], capture_output=True, check=False)
    assert bool(read_entries(str(known_hosts), name)) == (b"found: line 1" in judged.stdout)


def test_names_hashed_by_ssh_keygen_are_found(known_hosts, keys):
    known_hosts.write_text(f"box,[box]:2222 {keys['ed1'][0]} {keys['ed1'][1]}\n")
    subprocess.run(["ssh-keygen", "-H", "-f", known_hosts], check=True, capture_output=True)
    assert "box" not in known_hosts.read_text()
    check(policy(known_hosts), keys["ed1"])
    check(policy(known_hosts, port=2222), keys["ed1"])
    with pytest.raises(HostKeyError):
        check(policy(known_hosts, port=2222), keys["ed2"])


def test_a_name_we_hash_is_found_by_ssh_keygen(known_hosts, keys):
    check(policy(known_hosts, port=2222, hashed=True), keys["ed1"])
    assert "box" not in known_hosts.read_text()
    found = subprocess.run(["ssh-keygen", "-F", "[box]:2222", "-f", known_hosts], capture_output=True, check=True)
    assert keys["ed1"][1].encode() in found.stdout
    assert hash_name("x") != hash_name("x")


def test_fingerprints_are_those_of_ssh_keygen(known_hosts, keys):
    known_hosts.write_text(f"box {keys['ec1'][0]} {keys['ec1'][1]}\n")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", known_hosts], capture_output=True, text=True, check=True)
    assert fingerprint(keys["ec1"][2]) in shown.stdout


def test_an_unknown_host_is_recorded_in_one_appended_line(known_hosts, keys):
    known_hosts.write_text("# my own words\nother ssh-rsa AAAA")
    check(policy(known_hosts, port=2222), keys["ed1"])
    assert known_hosts.read_text() == (
        f"# my own words\nother ssh-rsa AAAA\n[box]:2222 {keys['ed1'][0]} {keys['ed1'][1]}\n"
    )
    check(policy(known_hosts, port=2222), keys["ed1"])
    assert known_hosts.read_text().count("\n") == 3


def test_a_new_file_and_its_directory_are_private(tmp_path, keys):
    file = tmp_path / "ssh" / "known_hosts"
    check(policy(file), keys["ed1"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_changed_key_is_refused_with_file_and_line(known_hosts, keys):
    known_hosts.write_text(f"# one\n\nbox {keys['ed1'][0]} {keys['ed1'][1]}\n")
    before = known_hosts.read_bytes()
    with pytest.raises(HostKeyError) as caught:
        check(policy(known_hosts), keys["ed2"])
    assert f"{known_hosts} line 3" in str(caught.value)
    assert fingerprint(keys["ed2"][2]) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.machine == "m1"
    assert known_hosts.read_bytes() == before


def test_another_kind_of_key_than_those_on_record_is_refused(known_hosts, keys):
    known_hosts.write_text(f"box {keys['ec1'][0]} {keys['ec1'][1]}\n")
    with pytest.raises(HostKeyError, match="has changed"):
        check(policy(known_hosts), keys["ed1"])


def test_one_of_several_keys_on_record_is_enough(known_hosts, keys):
    known_hosts.write_text("".join(f"box {keys[name][0]} {keys[name][1]}\n" for name in keys))
    for name in keys:
        check(policy(known_hosts), keys[name])


def test_a_key_recorded_without_the_port_is_good_at_any_port(known_hosts, keys):
    known_hosts.write_text(f"box {keys['ed1'][0]} {keys['ed1'][1]}\n")
    check(policy(known_hosts, port=2222), keys["ed1"])
    assert known_hosts.read_text().count("\n") == 1
    # ... and another machine behind another port is another machine, not a changed one.
    check(policy(known_hosts, port=2223), keys["ed2"])
    assert f"[box]:2223 {keys['ed2'][0]}" in known_hosts.read_text()


@pytest.mark.parametrize("named", ["box", "*", "[box]:2222"])
def test_a_revoked_key_is_refused_even_where_it_is_on_record(known_hosts, keys, named):
    kind, text, _ = keys["ed1"]
    known_hosts.write_text(f"[box]:2222 {kind} {text}\n@revoked {named} {kind} {text}\n")
    with pytest.raises(HostKeyError, match=r"line 2 says is revoked"):
        check(policy(known_hosts, port=2222), keys["ed1"])


def test_a_revoked_line_is_no_record_of_the_host(known_hosts, keys):
    known_hosts.write_text(f"@revoked box {keys['ed1'][0]} {keys['ed1'][1]}\n")
    check(policy(known_hosts), keys["ed2"])
    assert keys["ed2"][1] in known_hosts.read_text()


def test_certificate_authorities_and_broken_lines_are_passed_over(known_hosts, keys):
    kind, text, _ = keys["ed1"]
    known_hosts.write_bytes(
        f"@cert-authority * {kind} {text}\nbox 1024 35 1234567\nbox {kind} !!!\nbox {kind}\n|1|x|y {kind} {text}\n"
        f"box ssh-rsa {text}\n".encode()
        + b"\xff\xfe nonsense in no encoding\n"
    )
    check(policy(known_hosts), keys["ed2"])
    assert known_hosts.read_bytes().endswith(f"box {keys['ed2'][0]} {keys['ed2'][1]}\n".encode())


def test_all_files_are_read_and_the_first_is_written(tmp_path, keys):
    first, second, system = tmp_path / "first", tmp_path / "second", tmp_path / "system"
    second.write_text(f"two {keys['ed1'][0]} {keys['ed1'][1]}\n")
    system.write_text(f"three {keys['ed1'][0]} {keys['ed1'][1]}\n")

    def judge(host):
        return HostKeyPolicy(
            "m", host, 22, HostKeyOptions(user_files=[str(first), str(second)], system_files=[str(system)])
        )

    for host in ("two", "three"):
        check(judge(host), keys["ed1"])
        with pytest.raises(HostKeyError):
            check(judge(host), keys["ed2"])
    assert not first.exists()
    check(judge("four"), keys["ed1"])
    assert first.read_text().startswith("four ")


def test_strict_refuses_an_unknown_host_and_records_nothing(known_hosts, keys):
    with pytest.raises(HostKeyError, match="StrictHostKeyChecking is yes"):
        check(policy(known_hosts, strict=True), keys["ed1"])
    assert not known_hosts.exists()


def test_an_alias_stands_for_the_host_and_has_no_port(known_hosts, keys):
    check(policy(known_hosts, port=2222, alias="Board-7"), keys["ed1"])
    assert known_hosts.read_text().startswith("board-7 ")


def test_dev_null_forgets_and_accepts(keys):
    for name in ("ed1", "ed2"):
        check(HostKeyPolicy("m", "box", 22, HostKeyOptions(user_files=["/dev/null"])), keys[name])


def test_a_file_that_cannot_be_read_does_not_make_every_host_new(tmp_path, keys):
    (tmp_path / "known_hosts").mkdir()
    with pytest.raises(ConnectError, match="known_hosts"):
        check(policy(tmp_path / "known_hosts"), keys["ed1"])


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, keys, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        check(policy(tmp_path / "file" / "known_hosts"), keys["ed1"])
    assert "could not be recorded" in caplog.text


def test_ten_threads_at_once_record_a_host_once(known_hosts, keys):
    start = threading.Barrier(10)
    errors = []

    def one():
        judge = policy(known_hosts)
        start.wait()
        try:
            check(judge, keys["ed1"])
        except Exception as exc:  # noqa: BLE001
            errors.append(exc)

    threads = [threading.Thread(target=one) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert known_hosts.read_text().count("\n") == 1


def test_of_two_keys_shown_at_once_for_an_unknown_host_only_one_is_taken(known_hosts, keys):
    start = threading.Barrier(2)
    outcomes = []

    def one(name):
        judge = policy(known_hosts)
        start.wait()
        try:
            check(judge, keys[name])
            outcomes.append("taken")
        except HostKeyError:
            outcomes.append("refused")

    threads = [threading.Thread(target=one, args=(name,)) for name in ("ed1", "ed2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "taken"]


def test_a_lock_that_another_process_holds_is_waited_for_a_limited_time(known_hosts, keys, monkeypatch):
    monkeypatch.setattr(host_keys, "LOCK_TIMEOUT", 0.1)
    known_hosts.write_text("")
    with known_hosts.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConnectError, match="locked"):
            check(policy(known_hosts), keys["ed1"])
    check(policy(known_hosts), keys["ed1"])
    assert known_hosts.read_text()
