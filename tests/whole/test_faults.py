"""What must not cost a result: killed workers, dead machines, two bosses, Ctrl-C, a closed terminal."""

import json
import os
import signal
import subprocess

import pytest

from tests.support.census import ENDLESS, HANG_LIMIT, alive, lock_holders, wait_until
from tests.support.trouble import building, slow_make, tool, worker_of
from tests.whole.test_liars import LIAR

pytestmark = pytest.mark.deep

#: Boards of three architectures, one that fails and one that warns among them.
FOUR = "robin,sandbox,sandbox_spl,tern"


def finish(process, timeout=HANG_LIMIT):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def test_a_killed_worker_costs_no_board(ssh_farm, tmp_path):
    ssh_farm.machines(*ssh_farm.servers, max_boards=1, env=slow_make(tmp_path / "slow", 0.2))
    process = ssh_farm.start(
        "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--branch", "series",
        "--only", FOUR,
    )  # fmt: skip
    victim = ssh_farm.servers[0]
    wait_until(lambda: building(victim))
    holders = lock_holders(victim.work_dir)
    os.kill(worker_of(victim), signal.SIGKILL)
    wait_until(lambda: not any(map(alive, holders)))
    status, out, err = finish(process)
    assert status == 100, (out, err)
    assert len(ssh_farm.results("series")) == 4 * 6
    what = [event["what"] for event in ssh_farm.journal("series")]
    assert "machine-failed" in what
    assert "requeued" in what
    assert what.count("result") == 4 * 6


def test_when_the_only_machine_dies_the_rest_is_not_built_and_said_so(ssh_farm, tmp_path):
    ssh_farm.machines(ssh_farm.servers[0], max_boards=1, env=slow_make(tmp_path / "slow", 0.2))
    process = ssh_farm.start(
        "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--branch", "series",
        "--only", FOUR, "--patience", "3",
    )  # fmt: skip
    wait_until(lambda: len(ssh_farm.results("series")) >= 2)
    ssh_farm.servers[0].kill(everything=True)
    status, out, err = finish(process)
    assert status == 102, (out, err)
    done = len(ssh_farm.results("series"))
    (end,) = [event for event in ssh_farm.journal("series") if event["what"] == "run-end"]
    counts = end["data"]["counts"]
    assert counts["built"] + counts["warned"] + counts["failed"] == done
    assert counts["not_built"] == 4 * 6 - done
    assert "no machine left: m1" in out
    # What is there counts, and only the rest is built when the machine is back.
    ssh_farm.servers[0].start()
    ssh_farm.machines(ssh_farm.servers[0])
    again = ssh_farm.build("--branch", "series", "--only", FOUR)
    assert again.status == 100, again
    assert len(ssh_farm.results("series")) == 4 * 6
    ends = [event for event in ssh_farm.journal("series") if event["what"] == "run-end"]
    assert ends[-1]["data"]["counts"]["skipped"] == done


def test_no_machine_at_all_is_said_plainly(ssh_farm):
    for server in ssh_farm.servers:
        server.kill()
    ended = ssh_farm.build("--only", "sandbox")
    assert ended.status == 102, ended
    assert "refused" in ended.out
    assert "tried again" not in ended.out
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_keeps_what_is_there_and_frees_the_machines(ssh_farm, tmp_path, census, number):
    ssh_farm.machines(*ssh_farm.servers, max_boards=1, env=slow_make(tmp_path / "slow", 0.3))
    process = ssh_farm.start(
        "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--branch", "series",
        "--only", FOUR,
    )  # fmt: skip
    wait_until(lambda: len(ssh_farm.results("series")) >= 2)
    (tmp_path / "slow" / "hold").touch()  # from now on it would wait for its builds for ever
    os.kill(process.pid, number)
    status, out, err = finish(process)
    assert status == 130, (out, err)
    assert "Traceback" not in err
    assert "interrupted" in out
    census.check()
    for server in ssh_farm.servers:
        assert not lock_holders(server.work_dir)
    done = len(ssh_farm.results("series"))
    ssh_farm.machines(*ssh_farm.servers)
    again = ssh_farm.build("--branch", "series", "--only", FOUR)
    assert again.status == 100, again
    ends = [event for event in ssh_farm.journal("series") if event["what"] == "run-end"]
    assert ends[-1]["data"]["counts"]["skipped"] == done


def test_a_killed_boss_leaves_nothing_on_the_machines(ssh_farm, tmp_path, census):
    ssh_farm.machines(*ssh_farm.servers, max_boards=1, env=slow_make(tmp_path / "slow", 0.3))
    process = ssh_farm.start(
        "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--branch", "series",
        "--only", FOUR,
    )  # fmt: skip
    wait_until(lambda: building(ssh_farm.servers[2]))
    process.kill()
    finish(process)
    census.check()
    again = ssh_farm.build("--branch", "series", "--only", FOUR)
    assert again.status == 100, again
    assert len(ssh_farm.results("series")) == 4 * 6


def test_a_machine_that_another_boss_holds_is_named_and_the_others_are_used(ssh_farm, tmp_path):
    (ssh_farm.directory / "tasks.py").write_text(
        "import time\nfrom invoke import task\nfrom fabbuild import ns\n\n"
        "@task\ndef linger(c):\n    print('lingering', flush=True)\n    time.sleep(1000)\n\nns.add_task(linger)\n"
    )
    first = ssh_farm.start("init", "--machines", "m1", "linger")
    try:
        for line in first.stdout:
            if "lingering" in line:
                break
        ended = ssh_farm.build("--branch", "series", "--boards", "sandbox")
        assert ended.status == 100, ended
        assert ssh_farm.hosts_of("series") <= {"m2", "m3"}
        assert f"pid {first.pid}" in ended.out
        assert "BUSY" in ended.out
        busy = ssh_farm.run("init", "--machines", "m1")
        assert busy.status == 1
        assert "since" in busy.out
        assert f"pid {first.pid}" in ssh_farm.run("probe", "--machines", "m1").out
    finally:
        first.kill()
        finish(first)
    waited = ssh_farm.run("init", "--machines", "m1", "--wait", str(ENDLESS))
    assert waited.status == 0, waited


def test_two_bosses_in_one_output_one_is_told_who_works_there(ssh_farm, tmp_path):
    ssh_farm.machines(*ssh_farm.servers, max_boards=1, env=slow_make(tmp_path / "slow", 0.3))
    arguments = ["build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--branch", "series"]
    first = ssh_farm.start(*arguments)
    wait_until(lambda: ssh_farm.results("series"))
    (tmp_path / "slow" / "hold").touch()
    ended = ssh_farm.run(*arguments)
    assert ended.status == 1, ended
    assert f"another fabbuild works in {ssh_farm.output}/series (pid {first.pid}" in ended.err
    os.kill(first.pid, signal.SIGTERM)
    assert finish(first)[0] == 130


def test_kill_ends_what_runs_and_nothing_else(ssh_farm, tmp_path, census):
    ssh_farm.machines(*ssh_farm.servers[:1], max_boards=1, env=slow_make(tmp_path / "slow", ENDLESS))
    bystander = subprocess.Popen(["sleep", str(ENDLESS)], cwd="/")
    process = ssh_farm.start(
        "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--branch", "series",
        "--boards", "sandbox",
    )  # fmt: skip
    try:
        wait_until(lambda: building(ssh_farm.servers[0]))
        with (ssh_farm.servers[0].work_dir / "lock").open():  # a mere reader of the lock file
            ended = ssh_farm.run("kill")
            assert ended.status == 0, ended
            assert "killed" in ended.out
            assert str(os.getpid()) not in ended.out.split()
        assert bystander.poll() is None
        status, out, err = finish(process)
        assert status == 102, (out, err)
        assert "was ended by `inv kill`" in out
    finally:
        bystander.kill()
        bystander.wait()


def test_worker_stderr_appears_with_the_machines_name(ssh_farm):
    ended = ssh_farm.build("--only", "sandbox", "--verbose-worker", "--machines", "m1")
    assert "[m1] W: " in ended.out + ended.err, ended


def test_json_is_one_event_a_line_and_nothing_else(ssh_farm):
    ended = ssh_farm.build("--branch", "series", "--boards", "sandbox", "--json")
    events = ended.events
    assert events[-1]["what"] == "run-end"
    assert events[-1]["data"]["exit_status"] == ended.status == 100
    assert len([event for event in events if event["what"] == "result"]) == 12
    assert json.dumps(events)


def test_batch_builds_the_same(ssh_farm):
    fed = ssh_farm.build("--branch", "series", "--only", FOUR)
    assert fed.status == 100
    verdicts = {key: (path / "done").read_text() for key, path in ssh_farm.results("series").items()}
    batch = ssh_farm.build("--branch", "series", "--only", FOUR, "--batch", "--force")
    assert batch.status == 100, batch
    assert {key: (path / "done").read_text() for key, path in ssh_farm.results("series").items()} == verdicts
    assert len(ssh_farm.hosts_of("series")) >= 2
    # And it builds only what is missing, too.
    some = sorted(ssh_farm.results("series"))[::7]
    for key in some:
        (ssh_farm.results("series")[key] / "done").unlink()
    before = len(ssh_farm.journal("series"))
    again = ssh_farm.build("--branch", "series", "--only", FOUR, "--batch", "--no-reuse")
    assert again.status == 100, again
    what = [event["what"] for event in ssh_farm.journal("series")[before:]]
    assert what.count("result") == len(some)
    assert "dropped" not in what


def test_a_worker_that_floods_stderr_does_not_fill_the_logs(ssh_farm, tmp_path):
    liar = tmp_path / "liar.py"
    flood = (
        'sys.stderr.write("noise\\n" * 200000); sys.stderr.flush(); time.sleep(2); '
        'say(resp="build_result", board=command["board"], commit_upto=0, return_code=0)'
    )
    liar.write_text(LIAR.replace("LIE", flood))
    ssh_farm.machines(ssh_farm.servers[0], worker_command=f"python3 {liar}")
    ended = ssh_farm.build("--only", "tern")
    assert ended.status == 0, ended
    told = [event for event in ssh_farm.journal("current") if event["what"] == "machine-stderr"]
    assert 1 <= len(told) < 2000
    assert sum(path.stat().st_size for path in (ssh_farm.output / "current/.fabbuild").iterdir()) < 1_000_000


def test_the_end_does_not_wait_for_a_push_that_is_no_longer_needed(ssh_farm, tmp_path):
    """One machine has built everything while the source is still on its way to the other."""
    begun = f'case "$*" in *{ssh_farm.servers[1].work_dir}*) touch {tmp_path}/begun; exec sleep {ENDLESS};; esac'
    env = tool(tmp_path / "tools", "ssh", f'{begun}\nexec {{real}} "$@"')
    hold = f'[ "$1" = --version ] || until [ -e {tmp_path}/begun ]; do sleep 0.05; done'
    make = tool(tmp_path / "held", "make", f'{hold}\nexec {{real}} "$@"')
    ssh_farm.machines(*ssh_farm.servers[:2], env=make)
    ended = ssh_farm.build("--only", "sandbox", **env)
    assert ended.status == 0, ended
    assert (tmp_path / "begun").exists()
