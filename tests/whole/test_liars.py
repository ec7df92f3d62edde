"""A program at the other end of the wire that sends anything: refused, set aside, and the others go on."""

import os
import subprocess
import time

import pytest

from tests.support.census import HANG_LIMIT
from tests.support.trouble import slow_make

#: Real machines that are hurt or lie, waited for: minutes.
pytestmark = pytest.mark.deep

#: A worker that builds nothing and says what is put in place of LIE.
LIAR = """
import base64, json, os, sys, time, zlib
def say(**fields):
    print("BM> " + json.dumps(fields), flush=True)
def raw(text):
    sys.stdout.write(text)
    sys.stdout.flush()
say(resp="ready", nthreads=1, slots=1, features=["files", "early"])
for line in sys.stdin:
    command = json.loads(line)
    name = command["cmd"]
    if name == "configure":
        say(resp="configure_done")
    elif name == "build_prepare":
        say(resp="build_started", num_threads=1)
        say(resp="build_prepare_done")
    elif name == "build_board":
        board = command["board"]
        def result(**fields):
            say(**{**dict(resp="build_result", board=board, commit_upto=0, return_code=0), **fields})
        def file(content=b"x", **fields):
            data = base64.b64encode(zlib.compress(content)).decode()
            message = dict(resp="build_file", board=board, commit_upto=0, name=".config", last=True, data=data)
            say(**{**message, **fields})
        LIE
        time.sleep(1000)
    elif name == "quit":
        say(resp="quit_ack")
        break
"""

#: What they say in place of a result; those of a group lie to one boss at the same time.
LIES = {
    "names": {
        "a path": 'result(board="../../evil")',
        "an absolute path": 'result(board="/tmp/evil")',
        "another's board": 'result(board="heron" if board != "heron" else "tern")',
        "another commit": "result(commit_upto=7)",
        "a commit below the first": "result(commit_upto=-1)",
        "a commit that is no number": 'result(commit_upto="0")',
        "a huge number": "result(return_code=10**400)",
        "a load that is no number": 'raw(\'BM> {"resp":"build_result","board":"x","commit_upto":0,"return_code":0,"load_avg":NaN}\\n\')',
    },
    "sizes": {
        "deep json": 'raw("BM> " + "[" * 2000000 + "\\n")',
        "deep json in a field": 'raw(\'BM> {"resp":"waiting","holder":{"a":\' + "[" * 100000 + "]" * 100000 + "}}\\n")',
        "giant json": 'raw(\'BM> {"resp":"build_result","board":"\' + board + \'","commit_upto":0,"return_code":0,"details":{"a":[\' + "0," * 20000000 + "0]}}\\n")',
        "many keys": 'raw(\'BM> {"resp":"build_result","board":"\' + board + \'","commit_upto":0,"return_code":0,"config":{\' + ",".join(\'"%d":""\' % n for n in range(4000000)) + "}}\\n")',
        "a line of a gigabyte": 'for _ in range(1024): raw("x" * 2**20)',
        "a message of a gigabyte": 'raw("BM> "); [raw("x" * 2**20) for _ in range(1024)]',
    },
    "files": {
        "a path": 'file(name="../../evil")',
        "a name of the boss's own": 'file(name="done")',
        "a name nobody asked for": 'file(name="u-boot.bin")',
        "another's board": 'file(board="heron" if board != "heron" else "tern")',
        "another commit": "file(commit_upto=7)",
        "one that inflates without end": "file(bytes(400 * 2**20))",
        "no file": 'file(data="AAAA")',
        "no text of a file": 'file(data="!")',
        "the same twice": "file(); file()",
        "one without end": "for _ in range(300): file(bytes(2**20), last=False)",
    },
    "floods": {
        "no json": 'raw("BM> what?\\n")',
        "an array": 'raw("BM> []\\n")',
        "a flood of results": 'result(return_code=1, stderr="foo.c:1:1: error: no\\n")\n        while True: result()',
        "a flood of beats": 'while True: say(resp="heartbeat", board=board, thread=0)',
        "a flood of messages from before": 'while True: say(resp="build_prepare_done")',
        "more worktrees than it has": 'for _ in range(3): say(resp="worktree_created", thread=1)',
        "an error": 'say(resp="error", msg="no")',
    },
}

#: What they say before there is anything to build.
EARLY = {
    "worktrees without end": (
        'say(resp="build_started", num_threads=1)\n        while True: say(resp="worktree_created", thread=0)'
    ),
    "more slots than asked for": 'say(resp="build_started", num_threads=5)',
    "another message": 'say(resp="configure_done")',
    "no message": 'raw("BM> what?\\n")',
}

#: The memory of the boss may not grow beyond this, in MiB: itself, and what `fabbuild.machines.messages` says of one machine.
MOST_MEMORY = 400


def measured(process):
    """Wait for a process; gives its status and its highest memory in MiB."""
    deadline = time.monotonic() + HANG_LIMIT
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used.ru_maxrss / 1024
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail("it did not end")
        time.sleep(0.05)


@pytest.mark.parametrize("group", LIES)
def test_machines_that_lie_are_set_aside_and_the_others_go_on(farm, machines, census, tmp_path, group):
    lies = LIES[group]
    m2 = machines[1]
    census.watch(m2.work_dir)
    farm.env["INVOKE_FABBUILD_SSH_CONFIG"] = str(m2.ssh_config)
    entries = {
        "m2": {
            "host": "m2",
            "work_dir": str(m2.work_dir),
            "max_boards": 1,
            "env": slow_make(tmp_path / "slow", 0.2),
        }
    }
    for number, lie in enumerate(lies.values()):
        liar = tmp_path / f"liar{number}.py"
        liar.write_text(LIAR.replace("LIE", lie))
        entries[f"liar{number}"] = {
            "connection": "local", "work_dir": str(tmp_path / f"work{number}"), "max_boards": 1,
            "worker_command": f"python3 {liar}",
        }  # fmt: skip
    farm.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000}})
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            [
                *farm.command("build"), "--source", str(farm.source), "--output", str(farm.output),
                "--exclude", "osprey",
            ],
            cwd=farm.directory, env=farm.env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
        status, memory = measured(process)
    text = said.read_text()
    assert status in (0, 100, 101), text
    assert "Traceback" not in text
    done = {
        path.parent.name: path.with_name("host").read_text().strip()
        for path in (farm.output / "current").glob("*/done")
    }
    assert len(done) == 9
    # One of them gave a result that could be one, before it went on and on.
    assert sum(host != "m2" for host in done.values()) <= (group == "floods")
    failed = {e["machine"] for e in farm.journal("current") if e["what"] == "machine-failed"}
    assert failed == set(entries) - {"m2"}, text
    assert not list(tmp_path.rglob("evil*"))
    assert not os.path.exists("/tmp/evil")
    assert memory < MOST_MEMORY, memory
    logs = sum(path.stat().st_size for path in (farm.output / "current/.fabbuild").iterdir())
    assert logs < 8_000_000, logs
    print(group, memory, logs)


def test_machines_that_lie_before_they_are_ready_are_not_tried_again(farm, census, tmp_path):
    entries = {"good": {"connection": "local", "work_dir": str(tmp_path / "good"), "max_boards": 1}}
    for number, lie in enumerate(EARLY.values()):
        liar = tmp_path / f"liar{number}.py"
        honest = 'say(resp="build_started", num_threads=1)\n        say(resp="build_prepare_done")'
        liar.write_text(LIAR.replace(honest, lie).replace("LIE", "pass"))
        entries[f"liar{number}"] = {
            "connection": "local", "work_dir": str(tmp_path / f"work{number}"), "max_boards": 1,
            "worker_command": f"python3 {liar}",
        }  # fmt: skip
    farm.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000}})
    ended = farm.build("--only", "tern,heron,wren,sandbox")
    assert ended.status == 0, ended
    failed = {e["machine"]: e for e in farm.journal("current") if e["what"] == "machine-failed"}
    assert set(failed) == set(entries) - {"good"}, ended
    assert {e["data"]["again_in"] for e in failed.values()} == {None}, failed
