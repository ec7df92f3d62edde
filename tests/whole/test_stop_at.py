"""`--stop-at N`: enough failed boards end the run in good order, and the same command continues."""

import json

import pytest

from tests.support.census import lock_holders
from tests.support.scenes import last_run, nothing_left, whole
from tests.support.trouble import tool
from tests.whole.test_bad_input import one_line_error

#: A line that no compiler takes.
BROKEN = "\n#error broken on purpose\n"


def broken(farm):
    """Break the current source for every board of architecture arm: dunlin, plover and tern."""
    for cpu in ("arm926ejs", "armv7"):
        (farm.source / f"arch/arm/cpu/{cpu}/cpu.c").open("a").write(BROKEN)


def run_end(farm, name):
    (end,) = [event["data"] for event in last_run(farm.journal(name)) if event["what"] == "run-end"]
    return end


def test_enough_failed_boards_end_the_run_and_the_same_command_continues(farm):
    farm.machines(local=True, max_boards=1)
    broken(farm)
    build = ["--only", "dunlin,plover,tern,wren", "--order", "given", "--stop-at", "2", "--no-reuse"]
    ended = farm.build(*build)
    assert ended.status == 100, ended
    why = "2 boards failed, as --stop-at 2 asks"
    assert f"the run ends: {why}" in ended.out
    assert f"{why}, after " in ended.out
    assert ": 0 built, 2 failed, 2 not built; the same command continues from here" in ended.out
    assert f"  tern wren: {why}" in ended.out.splitlines()
    told = last_run(farm.journal("current"))
    assert [event["data"] for event in told if event["what"] == "stopped"] == [{"failed": 2}]
    assert [event["board"] for event in told if event["what"] == "assigned"] == ["dunlin", "plover"]
    assert {event["board"]: event["text"] for event in told if event["what"] == "not-built"} == {
        "tern": why,
        "wren": why,
    }

    # What failed is there and does not count again: this run goes on, to a failure that is not enough for it.
    again = farm.build(*build)
    assert again.status == 100, again
    counts = run_end(farm, "current")["counts"]
    assert (counts["skipped"], counts["built"], counts["failed"], counts["not_built"]) == (2, 1, 1, 0)
    assert "--stop-at" not in again.out


def test_failures_that_the_store_has_count_and_where_they_are_enough_nothing_is_built(farm):
    farm.machines(local=True)
    broken(farm)
    assert farm.build("--only", "dunlin").status == 100
    other = ["build", "--source", str(farm.source), "--output", str(farm.directory / "other")]
    ended = farm.run(*other, "--only", "dunlin,wren", "--stop-at", "1")
    assert ended.status == 100, ended
    assert "1 board failed, as --stop-at 1 asks" in ended.out
    assert "0 built, 1 failed, 1 not built; the same command continues from here" in ended.out
    journal = (farm.directory / "other/current/.fabbuild/journal.ndjson").read_text()
    assert not [line for line in journal.splitlines() if json.loads(line)["what"] == "assigned"]
    assert farm.run(*other, "--only", "dunlin,wren", "--stop-at", "1").status == 100
    assert (farm.directory / "other/current/wren/done").read_text() == "0\n"


@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_a_number_that_cannot_be_meant_is_one_clear_error(farm, value):
    farm.machines(local=True)
    ended = farm.build(f"--stop-at={value}", "--only", "sandbox")
    words = f'stop_at is the text "{value}"; it must be a whole number from 1 to 1000000'
    assert one_line_error(ended, words) == [ended.err.strip()], ended
    assert not farm.output.exists()


def test_it_may_be_set_wherever_options_of_the_build_are(farm):
    farm.write_machines(
        {
            "machines": {
                "local": {"connection": "local", "work_dir": str(farm.directory / "work"), "max_boards": 1}
            },
            "fit": {"max_load_per_cpu": 1000},
            "build": {"stop_at": 1},
        }
    )
    broken(farm)
    build = ["--only", "dunlin,tern", "--order", "given", "--no-reuse"]
    assert "1 not built; the same command continues" in farm.build(*build).out
    ended = farm.build(*build, "--force", INVOKE_FABBUILD_STOP_AT="2")
    assert ended.status == 100, ended
    assert "2 results in" in ended.out
    assert "0 built, 2 failed" in ended.out


@pytest.mark.deep
def test_machines_that_still_build_are_left_clean(ssh_farm, tmp_path, census):
    """A board fails when each of two machines is in the middle of another, whose build would have no end."""
    broken(ssh_farm)
    servers = ssh_farm.servers[:2]
    building = tmp_path / "building"
    building.mkdir()
    others = f"*_defconfig*) touch {building}/{{name}}; while :; do sleep 1; done"
    first = f"*dunlin_defconfig*) until [ -e {building}/m1 ] && [ -e {building}/m2 ]; do sleep 0.1; done"
    script = f'case "$*" in {first};; {others};; esac\nexec {{real}} "$@"'
    entries = {
        server.name: {
            "host": server.name,
            "work_dir": str(server.work_dir),
            "max_boards": 2,
            "env": tool(tmp_path / server.name, "make", script.replace("{name}", server.name)),
        }
        for server in servers
    }
    ssh_farm.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000}})
    build = ["--only", "dunlin,plover,robin,wren", "--no-reuse"]
    ended = ssh_farm.build(*build, "--stop-at", "1")
    assert ended.status == 100, ended
    assert "Traceback" not in ended.err
    assert "1 board failed, as --stop-at 1 asks" in ended.out
    census.check()
    for server in servers:
        assert not lock_holders(server.work_dir), server.name
        assert '{"cmd": "quit"}' in (ssh_farm.output / f"current/.fabbuild/worker-{server.name}.log").read_text()
    assert [path.parent.name for path in ssh_farm.output.glob("current/*/err")] == ["dunlin"]
    assert whole(ssh_farm.output / "current/dunlin")
    assert run_end(ssh_farm, "current")["counts"]["not_built"] == 3
    ssh_farm.machines(*servers)
    nothing_left(ssh_farm)
    assert ssh_farm.build(*build).status == 100
    counts = run_end(ssh_farm, "current")["counts"]
    assert (counts["skipped"], counts["built"], counts["failed"]) == (1, 2, 1)
