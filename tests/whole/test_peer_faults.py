"""What loses users' work with the peer, each of it made to happen there, must not happen here."""

import os
import re
import shutil

import pytest

from tests.support.scenes import FEW, judged, nothing_left, whole
from tests.support.sshd import make_sshd
from tests.support.trouble import slow_make, tool
from tests.whole.test_liars import LIAR

pytestmark = pytest.mark.deep


@pytest.fixture
def own_sshd(ssh_farm, tmp_path, census):
    """Make machines of a test's own: ``own_sshd("w1", "ForceCommand …")``; what they are called in machines.yaml too."""
    made = []

    def make(name, extra="", program=""):
        base = tmp_path / "own machines"
        base.mkdir(exist_ok=True)
        server = make_sshd(base, name, f"127.0.0.{6 + len(made)}", extra)
        server.program = program or server.program
        server.start()
        made.append(server)
        ssh_farm.env["INVOKE_FABBUILD_SSH_CONFIG"] = str(server.ssh_config)
        ssh_farm.servers = list(made)
        return server

    yield make
    for server in made:
        server.kill(everything=True)


def script(path, text):
    """Write a shell script and make it a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


# --- the same source everywhere -----------------------------------------------------------------------------


def test_uncommitted_edits_are_built_on_every_machine_and_a_failure_there_is_one_here(ssh_farm, tmp_path):
    ssh_farm.machines(*ssh_farm.servers, max_boards=1, env=slow_make(tmp_path / "slow", 0.5))
    main = ssh_farm.source / "common" / "main.c"
    # In the source's own encoding, which gcc prints as it is.
    main.write_bytes(main.read_bytes() + b'\n#include "untracked.h"\n#error caf\xe9\n')
    (main.parent / "untracked.h").write_text("#warning this file is not in git\n")
    ended = ssh_farm.build("--only", "sandbox,sandbox_spl,tern,wren,robin")
    assert ended.status == 100, ended
    places = [path.parent for path in ssh_farm.output.glob("current/*/done")]
    assert len(places) == 5
    for place in places:
        assert (place / "done").read_text() == "2\n"
        assert "error: #error caf\ufffd" in (place / "err").read_text()
        assert "this file is not in git" in (place / "err").read_text()
    assert {(place / "host").read_text() for place in places} == {"m1\n", "m2\n", "m3\n"}


#: Variables that name places of a machine.
PLACES = re.compile("PATH=|XDG_|TMP")


def test_settings_are_the_same_on_this_machine_and_over_ssh_and_sandbox_needs_no_local_machine(ssh_farm, tmp_path):
    entries, found = {}, {}
    for name in ("here", "m1"):
        way = {"connection": "local"} if name == "here" else {"host": name}
        noted = f'#!/bin/sh\n[ "$1" = --version ] || echo "$*" >>{tmp_path}/{name}.calls\nexec {{real}} "$@"\n'
        env = tool(tmp_path / name, "make", noted)
        entries[name] = {
            **way,
            "work_dir": str(tmp_path / "work" / name),
            "threads": 1,
            "max_boards": 1,
            "env": env,
        }
    ssh_farm.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000}})
    options = ["--no-lto", "--reproducible", "--werror", "--verbose-build", "--allow-missing", "--mrproper"]
    options += ["--fallback-mrproper", "--no-kconfig-check", "--only", "sandbox", *FEW[:2], "--step", "0"]
    for name, way in (("here", ["--machines", "here"]), ("m1", ["--no-local"])):
        output = ssh_farm.directory / name
        ended = ssh_farm.run(
            "build", "--source", str(ssh_farm.source), "--output", str(output), "--no-reuse", *way, *options
        )
        assert ended.status == 100, ended  # a warning of the last commit is an error
        places = {path.parent.parent.name[:2]: path.parent for path in output.glob("series/*/sandbox/done")}
        assert {key: (path / "done").read_text() for key, path in places.items()} == {"01": "0\n", "06": "2\n"}
        assert {(path / "host").read_text() for path in places.values()} == {f"{name}\n"}
        found[name] = {
            (key, file): [line for line in (path / file).read_text().splitlines() if not PLACES.match(line)]
            for key, path in places.items()
            for file in ("done", "err", "sizes", "out-cmd", "out-env", "toolchain")
            if (path / file).exists()
        }
        found[name]["calls"] = (tmp_path / f"{name}.calls").read_text().replace(entries[name]["work_dir"], "WORK")
    assert found["here"] == found["m1"]
    for word in ("V=1", "NO_LTO=1", "BINMAN_ALLOW_MISSING=1", "KCFLAGS=-Werror", "mrproper", "SOURCE_DATE_EPOCH=0"):
        assert word in found["m1"]["calls"], word


# --- odd machines -------------------------------------------------------------------------------------------


def test_a_login_that_prints_on_stdout_is_no_hindrance(ssh_farm, own_sshd, tmp_path):
    motd = script(
        tmp_path / "motd",
        'echo Welcome to the lab; echo motd >&2; printf "% "\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n',
    )
    ssh_farm.machines(own_sshd("w1", f"ForceCommand {motd}\n"))
    ended = ssh_farm.build("--only", "sandbox,tern")
    assert ended.status == 0, ended
    nothing_left(ssh_farm)


def test_a_login_that_leaves_its_line_unfinished_or_prints_megabytes_can_be_asked(ssh_farm, own_sshd, tmp_path):
    unfinished = script(tmp_path / "unfinished", 'printf "welcome {"\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    ssh_farm.machines(own_sshd("w1", f"ForceCommand {unfinished}\n"))
    ended = ssh_farm.build("--only", "tern")
    assert ended.status == 0, ended
    much = script(tmp_path / "much", 'yes hello | head -c 20000000\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    ssh_farm.machines(own_sshd("w2", f"ForceCommand {much}\n"))
    probed = ssh_farm.run("probe")
    assert probed.status == 0, probed
    nothing_left(ssh_farm)


def test_a_login_that_runs_nothing_is_told_by_what_it_printed(ssh_farm, own_sshd, tmp_path):
    deaf = script(tmp_path / "deaf", "echo this account is closed\nexit 0\n")
    ssh_farm.machines(own_sshd("w1", f"ForceCommand {deaf}\n"))
    probed = ssh_farm.run("probe")
    assert probed.status, probed
    assert "no answer" in probed.out
    assert "this account is closed" in probed.out


def test_a_push_that_fails_is_told_in_the_words_of_the_other_side(ssh_farm, own_sshd, tmp_path):
    closed = script(
        tmp_path / "closed",
        """case "$SSH_ORIGINAL_COMMAND" in
        *"--pack receive-pack"*) echo 'fatal: the lab is closed today' >&2; exit 128;;
        *) exec sh -c "$SSH_ORIGINAL_COMMAND";;
        esac
        """,
    )
    slow = slow_make(tmp_path / "slow", 1)
    ssh_farm.machines(own_sshd("w1", f"ForceCommand {closed}\n"), local=True, env=slow)
    ended = ssh_farm.build("--only", "sandbox,tern")
    assert ended.status == 0, ended
    assert re.search(r"w1\b.*: git push: .*the lab is closed today", ended.out), ended
    assert {path.read_text() for path in ssh_farm.output.glob("current/*/host")} == {"local\n"}


#: What such a worker does in place of what it should: what it is to be told for that, and whether it is used.
ODD_WORKERS = {
    "configure refused": (
        ('say(resp="configure_done")', 'say(resp="error", msg="unknown setting: no_lto")'),
        "configure was refused: unknown setting: no_lto",
        False,
    ),
    "each result twice": (("LIE", "result(); result(); continue"), "", True),
}


@pytest.mark.parametrize(("change", "words", "used"), ODD_WORKERS.values(), ids=ODD_WORKERS)
def test_an_odd_worker_spoils_no_result(ssh_farm, tmp_path, change, words, used):
    (tmp_path / "odd.py").write_text(LIAR.replace(*change))
    m1, m2, _ = ssh_farm.servers
    odd = {"host": "m1", "work_dir": str(m1.work_dir), "worker_command": f"python3 {tmp_path}/odd.py"}
    slow = {"host": "m2", "work_dir": str(m2.work_dir), "env": slow_make(tmp_path / "slow", 0.3), "max_boards": 1}
    ssh_farm.write_machines({"machines": {"m1": odd, "m2": slow}, "fit": {"max_load_per_cpu": 1000}})
    ended = ssh_farm.build("--only", "tern,sandbox,wren,plover")
    assert ended.status == 0, ended
    told = ssh_farm.journal("current")
    counted = [event["board"] for event in told if event["what"] == "result"]
    assert sorted(counted) == ["plover", "sandbox", "tern", "wren"]
    hosts = {path.read_text() for path in ssh_farm.output.glob("current/*/host")}
    assert "m1\n" in hosts if used else hosts == {"m2\n"}
    failed = [event["text"] for event in told if event["what"] == "machine-failed"]
    assert not failed if used else words in failed[0]
    assert any(event["what"] == "dropped" for event in told) or "configure" in words


# --- home directories ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(
            ("kea", "ruru"), marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can name machines")
        ),
        None,
    ],
    ids=["two names", "one name"],
)
def test_a_home_with_spaces_that_machines_share_is_no_hindrance(ssh_farm, own_sshd, fault_free, tmp_path, names):
    """As over NFS. Machines of one name are one machine as far as anybody can tell: it serves one at a time."""
    home = tmp_path / "a shared home"
    home.mkdir()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    servers = []
    for number, name in enumerate(names or ("one", "two")):
        named = script(
            tmp_path / name, f'hostname {name}\nexec {shutil.which("sshd", path=os.defpath + ":/usr/sbin")} "$@"\n'
        )
        program = script(tmp_path / f"{name}.uts", f'exec unshare --uts {named} "$@"\n') if names else ""
        servers.append(own_sshd(f"w{number + 1}", f'SetEnv HOME="{home}" TMPDIR="{temporary}"\n', str(program)))
    ssh_farm.write_machines(
        {
            "machines": {server.name: {"host": server.name, "max_boards": 1} for server in servers},
            "fit": {"max_load_per_cpu": 1000},
        }
    )
    ended = ssh_farm.build(*FEW, "--step", "0")
    assert ended.status == 101, ended
    results = ssh_farm.results("series")
    assert len(results) == len(fault_free) // 3
    assert {key: judged(path) for key, path in results.items()} == {key: fault_free[key] for key in results}
    assert all(whole(path) for path in results.values())
    work_dirs = sorted(path.name for path in (home / ".cache" / "fabbuild").iterdir())
    if names:
        assert work_dirs == ["kea", "ruru"]
        assert ssh_farm.hosts_of("series") == {"w1", "w2"}
    else:
        assert len(work_dirs) == 1
        assert len(ssh_farm.hosts_of("series")) == 1
        assert "BUSY: held by" in ended.out
    assert ssh_farm.run("kill").out.count("no workers") == 2
    cleaned = ssh_farm.run("clean", "--yes")
    # Whichever comes second finds the other at work, or nothing to do any more.
    assert cleaned.status == 0 or (not names and "held by" in cleaned.out + cleaned.err), cleaned
    assert not list((home / ".cache" / "fabbuild").iterdir())
    assert not list(temporary.iterdir())
