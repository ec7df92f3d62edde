"""The tasks as programs: `inv` and `fab`, alone, in a chain, and from another collection."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import yaml

from fabbuild.results.reuse.store import Store, StoreEntry
from tests.support.farm import BIN, dedent


def lines(ended):
    return ended.out.splitlines()


def test_the_collection_loads_no_more_than_it_shows():
    """Completion loads it at each TAB."""
    heavy = {"fabric", "paramiko", "kconfiglib", "sqlite3", "msgspec", "rich", "jinja2", "junitparser"}
    code = f"import sys; from fabbuild import ns; assert ns.task_names; print({heavy} & set(sys.modules) or '')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_build_loads_the_rules_and_what_shows_results_only_when_it_needs_them():
    """With nothing to do, most of its time would go into loading them."""
    heavy = {"schedule", "moves", "faults", "dispatcher", "timeline", "summary", "status", "report"}
    program = f"import sys, fabbuild.build.run_plan, fabbuild.cli.ui; print([m for m in {sorted(heavy)} if 'fabbuild.' + m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
    )


def test_list_names_every_task_and_no_default(farm):
    ended = farm.run("--list")
    for name in (
        "probe",
        "init",
        "push",
        "start",
        "build",
        "kill",
        "kill-workers",
        "boards",
        "toolchains",
        "clean",
    ):
        assert name in ended.out
    assert "Default" not in ended.out


def test_every_option_of_every_task_has_help():
    from fabbuild import ns

    for name in ns.task_names:
        for argument in ns[name].get_arguments():
            assert argument.help, f"{name} --{argument.name} has no help"


def test_probe_over_ssh_shows_what_a_machine_has(ssh_farm):
    ended = ssh_farm.run("probe", "--json")
    assert ended.status == 0, ended
    rows = json.loads(ended.out)
    assert [row["machine"] for row in rows] == ["m1", "m2", "m3"]
    for row, server in zip(rows, ssh_farm.servers, strict=True):
        assert row["fit"] is True
        assert row["threads"] >= 1
        assert row["bogomips"] >= 0
        assert row["work_dir"] == str(server.work_dir)
        assert row["git"]
        assert row["toolchains"]["sandbox"]["version"]
        assert not server.work_dir.exists(), "probe writes nothing"


def test_a_dead_machine_gets_its_line_and_does_not_stop_the_others(ssh_farm):
    ssh_farm.servers[1].kill()
    ended = ssh_farm.run("probe")
    assert ended.status == 1
    (dead,) = [line for line in lines(ended) if line.startswith("m2")]
    assert "refused" in dead
    assert sum(" yes " in line for line in lines(ended)) == 2
    assert "Traceback" not in ended.err


def test_fab_probe_of_hosts_in_no_file(ssh_farm):
    (ssh_farm.directory / "machines.yaml").unlink()
    config = str(ssh_farm.servers[0].ssh_config)
    ssh_farm.servers[0].kill()
    ended = ssh_farm.run("-S", config, "-H", "m1,m2", "probe", program="fab")
    assert ended.status == 0, ended
    assert any(line.startswith("m1") and "refused" in line for line in lines(ended))
    # Fit or not is a question of this machine's load just now; what it has is not.
    assert any(line.startswith("m2") and "; gcc: " in line for line in lines(ended))
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("task", ["init", "kill", "probe"])
def test_a_machine_that_says_nothing_holds_up_nobodys_line(ssh_farm, task):
    with socket.create_server(("127.0.0.9", 0)) as mute:
        entries = yaml.safe_load((ssh_farm.directory / "machines.yaml").read_text())
        entries["machines"]["mute"] = {"host": f"127.0.0.9:{mute.getsockname()[1]}"}
        ssh_farm.write_machines(entries)
        process = ssh_farm.start(task)
        try:
            # What a task lists for other programs comes last; who has answered is said beside it.
            stream = process.stderr if task == "probe" else process.stdout
            said = sorted(stream.readline().split()[0] for _ in range(3))
            assert said == ["m1", "m2", "m3"]
            assert process.poll() is None, "it went on without the last machine"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_fab_takes_the_entry_of_a_host_and_says_where_there_is_none(ssh_farm):
    work_dir = ssh_farm.servers[0].work_dir
    assert ssh_farm.run("-H", "m1", "init", program="fab").status == 0
    assert (work_dir / "repo.git").is_dir(), "the entry's work_dir"
    ended = ssh_farm.run("-H", "127.0.0.8", "kill", program="fab")
    assert f"127.0.0.8: {ssh_farm.directory}/machines.yaml has no entry for it" in ended.err
    entries = yaml.safe_load((ssh_farm.directory / "machines.yaml").read_text())
    entries["machines"] = {"kea": {**entries["machines"]["m2"]}}
    ssh_farm.write_machines(entries)
    for name in ("kea", "m2"):  # by its name, and by its host
        ended = ssh_farm.run("-H", name, "probe", "--json", program="fab")
        assert "no entry" not in ended.err
        (row,) = json.loads(ended.out)
        assert row["work_dir"] == str(ssh_farm.servers[1].work_dir), ended


def test_tasks_go_by_the_ssh_program_where_the_file_says_so(ssh_farm, census):
    entries = yaml.safe_load((ssh_farm.directory / "machines.yaml").read_text())
    entries["machines"] = {"m1": {**entries["machines"]["m1"], "connection": "openssh"}}
    ssh_farm.write_machines(entries)
    before = ssh_farm.servers[0].log.count("Accepted publickey")
    ended = ssh_farm.run("init", "push", "--source", str(ssh_farm.source), "start")
    assert ended.status == 0, ended
    assert "ready: " in lines(ended)[-1]
    assert ssh_farm.servers[0].log.count("Accepted publickey") == before + 1
    ended = ssh_farm.run("-H", "m1", "kill", program="fab")
    assert "no workers" in ended.out, ended
    census.check()


def test_fab_without_hosts_works_on_the_machines_of_the_file(ssh_farm):
    ended = ssh_farm.run("probe", "--machines", "m3", program="fab")
    assert ended.status == 0, ended
    assert any(line.startswith("m3") for line in lines(ended))


def test_build_refuses_one_connection_with_a_hint(ssh_farm):
    ended = ssh_farm.run("-S", str(ssh_farm.servers[0].ssh_config), "-H", "m1", "build", program="fab")
    assert "use `inv build --hosts" in ended.err
    assert ended.status == 1, "wrong use is no machine's trouble"


def test_hosts_that_are_in_no_file_need_no_file(ssh_farm):
    (ssh_farm.directory / "machines.yaml").unlink()
    (row,) = json.loads(ssh_farm.run("probe", "--hosts", "m2", "--json").out)
    assert row["toolchains"]["sandbox"]


def test_each_task_works_alone_and_leaves_nothing_behind(ssh_farm, census):
    source = ["--source", str(ssh_farm.source)]
    ended = ssh_farm.run("init")
    assert ended.status == 0, ended
    assert sorted(line.split()[:2] for line in lines(ended)) == [["m1", "ok"], ["m2", "ok"], ["m3", "ok"]]
    ended = ssh_farm.run("push", *source, "--branch", "series")
    assert ended.status == 0, ended
    git = ["git", "-C", str(ssh_farm.servers[0].work_dir / "repo.git"), "rev-parse", "refs/fabbuild/current"]
    there = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    tip = subprocess.run(
        ["git", "-C", str(ssh_farm.source), "rev-parse", "series"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert there == tip
    ended = ssh_farm.run("start")
    assert ended.status == 0, ended
    assert all("ready: " in line for line in lines(ended))
    census.check()


def test_a_chain_uses_one_session_a_machine(ssh_farm):
    source = ["--source", str(ssh_farm.source)]
    only = ["--only", "sandbox", "--output", str(ssh_farm.output)]

    def logins(*chain):
        before = [server.log.count("Accepted publickey") for server in ssh_farm.servers]
        ended = ssh_farm.run(*chain, "build", "--force", *source, *only)
        assert ended.status == 0, ended
        return [s.log.count("Accepted publickey") - b for s, b in zip(ssh_farm.servers, before, strict=True)]

    logins()  # the first push has more to say than the later ones
    assert logins("init", "start") == logins()


def test_the_worker_is_sent_once_a_version(ssh_farm):
    ssh_farm.run("start", "--machines", "m1")
    (worker,) = (ssh_farm.servers[0].work_dir / "bin").iterdir()
    assert worker.name.startswith("worker-")
    first = worker.stat()
    ended = ssh_farm.run("start", "--machines", "m1")
    assert ended.status == 0
    assert worker.stat().st_mtime_ns == first.st_mtime_ns


def test_kill_says_that_there_is_nothing_to_kill(ssh_farm):
    ended = ssh_farm.run("kill-workers")
    assert ended.status == 0, ended
    assert all("no workers" in line for line in lines(ended))


def test_boards_lists_a_selection(farm):
    ended = farm.run("boards", "--source", str(farm.source), "--boards", "arm & acme", "--json")
    assert ended.status == 0, ended
    assert [board["target"] for board in json.loads(ended.out)] == ["egret", "heron", "plover", "tern"]


def test_boards_lists_those_that_read_a_file_and_says_of_how_many_nothing_is_known(farm):
    boards = ["boards", "--source", str(farm.source), "--boards", "arm & acme"]
    ended = farm.run(*boards, "--reading", "common/main.c", "--json")
    assert (ended.status, ended.out) == (0, "[]\n"), ended
    assert ended.err == "fabbuild: of 4 boards nothing is known: build them first\n"
    depends = b"common/main.c\nlib/string.c\n"
    with Store.open(farm.directory / "cache" / "fabbuild" / "store.sqlite3") as store:
        digest = hashlib.sha256(depends).digest()
        for board in ("tern", "heron", "wren"):
            store.put([StoreEntry((board.encode(),), b"", {digest: depends}, b"", digest, board)])
    ended = farm.run(*boards, "--reading", "lib/*.c", "--fields", "target")
    assert ended.out == "heron\ntern\n"
    assert ended.err == "fabbuild: of 2 boards nothing is known: build them first\n"
    ended = farm.run(*boards, "--reading", "drivers/led.c")
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.splitlines() == [
        "fabbuild: none of 2 boards whose reads are known reads drivers/led.c",
        "fabbuild: of 2 boards nothing is known: build them first",
    ]
    ended = farm.run(*boards, "--only", "tern", "--reading", "drivers/led.c")
    assert (ended.status, ended.out, ended.err) == (0, "", "fabbuild: none of 1 board reads drivers/led.c\n")


def test_boards_reading_needs_a_file_of_the_source_and_lists_no_mistakes(farm):
    boards = ["boards", "--source", str(farm.source)]
    ended = farm.run(*boards, "--reading", "commn/main.c")
    assert (ended.status, ended.out) == (1, "")
    assert "the source has no file 'commn/main.c'; did you mean common/main.c?" in ended.err
    ended = farm.run(*boards, "--reading=", "--fields", "target")
    assert (ended.status, ended.out) == (1, "")
    assert "the source has no file ''" in ended.err
    ended = farm.run(*boards, "--reading", "common/main.c", "--check")
    assert ended.status == 1
    assert "leave one of them out" in ended.err


def test_toolchains_shows_what_was_tried(ssh_farm):
    ended = ssh_farm.run("toolchains", "--machines", "m1", "--tried")
    assert ended.status == 0, ended
    assert any("sandbox" in line and "gcc" in line for line in lines(ended))
    assert any("TRIED" in line for line in lines(ended))


def test_clean_asks_first(ssh_farm):
    ssh_farm.run("init", "--machines", "m1")
    work_dir = ssh_farm.servers[0].work_dir
    ended = ssh_farm.run("clean", "--machines", "m1")
    assert ended.status == 1
    assert work_dir.exists()
    ended = ssh_farm.run("clean", "--machines", "m1", "--yes")
    assert ended.status == 0, ended
    assert not work_dir.exists()


def test_a_work_dir_with_spaces_is_built_in_and_cleaned(ssh_farm, tmp_path):
    server = ssh_farm.servers[0]
    work_dir = server.directory / "a work: dir"
    private = tmp_path / "private"
    private.mkdir()
    ssh_farm.write_machines(
        {
            "machines": {"m1": {"host": "m1", "work_dir": str(work_dir), "env": {"TMPDIR": str(private)}}},
            "fit": {"max_load_per_cpu": 1000},
        }
    )
    ended = ssh_farm.build("--branch", "series", "--boards", "sandbox")
    assert ended.status == 100, ended
    slots = (work_dir / "slots").resolve()
    assert " " not in str(slots)
    ended = ssh_farm.run("clean", "--yes")
    assert ended.status == 0, ended
    assert not work_dir.exists()
    assert not slots.exists()


def test_dry_prints_the_plan_and_touches_nothing(ssh_farm):
    ended = ssh_farm.run(
        "--dry", "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--branch", "series",
        "--boards", "arm", "--step", "0",
    )  # fmt: skip
    assert ended.status == 0, ended
    assert "5 boards at 2 commits" in ended.out
    assert "m1" in ended.out
    assert str(ssh_farm.output / "series") in ended.out
    assert not ssh_farm.output.exists()
    assert not ssh_farm.servers[0].work_dir.exists()


@pytest.mark.parametrize("task", ["init", "push", "start", "kill"])
def test_dry_contacts_no_machine(ssh_farm, task):
    before = [server.log.count("Accepted publickey") for server in ssh_farm.servers]
    source = ["--source", str(ssh_farm.source)] if task == "push" else []
    ended = ssh_farm.run("--dry", task, *source)
    assert ended.status == 0, ended
    assert all("would " in line for line in lines(ended))
    assert [server.log.count("Accepted publickey") for server in ssh_farm.servers] == before


def test_two_ports_of_one_host_are_two_machines_under_fab(ssh_farm, tmp_path, census):
    from tests.support.sshd import make_sshd

    base = tmp_path / "ports"
    base.mkdir()
    pair = [make_sshd(base, name, "127.0.0.6") for name in ("a", "b")]
    try:
        for server in pair:
            server.start()
        # No alias: the same host name with two ports, and the key by option.
        hosts = ",".join(f"127.0.0.6:{server.port}" for server in pair)
        ended = ssh_farm.run(
            "-S", str(pair[0].ssh_config), "-i", str(pair[0].user_key), "-H", hosts, "probe", program="fab"
        )
        assert ended.status == 0, ended
        assert [server.log.count("Accepted publickey") for server in pair] == [1, 1]
    finally:
        for server in pair:
            server.kill(everything=True)


def test_the_command_line_wins_over_the_configuration_also_with_a_default(farm):
    farm.machines(local=True)
    ended = farm.run(
        "--dry", "build", "--source", str(farm.source), "--branch", "series", "--step", "1",
        INVOKE_FABBUILD_STEP="2", INVOKE_FABBUILD_COMMITS="main..series",
    )  # fmt: skip
    assert "at 6 commits" in ended.out, ended


def test_kill_in_a_chain_leaves_a_session_that_can_be_opened_again(ssh_farm):
    ended = ssh_farm.run(
        "init",
        "kill",
        "build",
        "--source",
        str(ssh_farm.source),
        "--output",
        str(ssh_farm.output),
        "--only",
        "sandbox",
    )
    assert ended.status == 0, ended


# --- in other people's collections --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tasks",
    [
        "from fabbuild import ns",
        """
        import fabbuild
        from invoke import Collection

        ns = Collection()
        ns.add_collection(fabbuild)
        """,
        """
        from fabbuild import ns as inner
        from invoke import Collection

        ns = Collection(inner)
        """,
    ],
    ids=["as it is", "the module", "the collection"],
)
def test_the_tasks_work_from_another_collection(farm, tasks):
    (farm.directory / "tasks.py").write_text(dedent(tasks))
    name = "boards" if tasks.startswith("from") else "fabbuild.boards"
    ended = farm.run(name, "--source", str(farm.source))
    assert ended.status == 0, ended
    assert len(lines(ended)) == 10


def test_demo_and_test_do_not_leak_into_other_collections(farm):
    ended = farm.run("--list")
    names = {line.split()[0] for line in lines(ended)[2:] if line.startswith("  ") and line[2:3] != " "}
    assert names.isdisjoint({"demo", "test", "bench"})


def test_an_outer_collections_configuration_reaches_our_options(farm):
    (farm.directory / "tasks.py").write_text(
        dedent(
            f"""
            import fabbuild
            from invoke import Collection

            ns = Collection()
            ns.add_collection(fabbuild)
            ns.configure({{"fabbuild": {{"boards": "riscv", "source": {str(farm.source)!r}}}}})
            """
        )
    )
    assert len(lines(farm.run("fabbuild.boards"))) == 2


def test_a_configuration_file_and_the_environment_reach_our_options(farm):
    (farm.directory / "invoke.yaml").write_text(f"fabbuild:\n  boards: riscv\n  source: {farm.source}\n")
    (farm.directory / "fabric.yaml").write_text(f"fabbuild:\n  boards: sandbox\n  source: {farm.source}\n")
    assert [line.split()[0] for line in lines(farm.run("boards"))] == ["robin", "wren"]
    ended = farm.run("boards", program="fab")
    assert [line.split()[0] for line in lines(ended)] == ["sandbox", "sandbox_spl"]
    assert len(lines(farm.run("boards", INVOKE_FABBUILD_BOARDS="aarch64"))) == 2
    assert len(lines(farm.run("boards", program="fab", FABRIC_FABBUILD_BOARDS="powerpc"))) == 1
    assert len(lines(farm.run("boards", "--boards", "arm", INVOKE_FABBUILD_BOARDS="aarch64"))) == 5


def test_tasks_that_were_imported_one_by_one_take_the_configuration_as_the_whole_collection_does(farm):
    (farm.directory / "tasks.py").write_text("from fabbuild.tasks import boards, probe\n")
    farm.env["INVOKE_FABBUILD_SOURCE"] = str(farm.source)
    assert len(lines(farm.run("boards", INVOKE_FABBUILD_BOARDS="aarch64"))) == 2
    (farm.directory / "invoke.yaml").write_text("fabbuild:\n  boards: riscv\n")
    assert len(lines(farm.run("boards"))) == 2
    assert len(lines(farm.run("boards", INVOKE_FABBUILD_BOARDS="arm"))) == 5
    ended = farm.run("boards", INVOKE_FABBUILD_BORDS="arm")
    assert "INVOKE_FABBUILD_BORDS is not one of fabbuild's and has no effect" in ended.err
    # So does a key that is no option.
    (farm.directory / "ssh").touch()
    ended = farm.run("probe", "--hosts", "m1", INVOKE_FABBUILD_SSH_CONFIG=str(farm.directory / "nosuch"))
    assert "nosuch: No such file" in ended.out + ended.err


def test_the_tasks_can_be_called_from_python(farm):
    farm.machines(local=True)
    (farm.directory / "call.py").write_text(
        dedent(
            f"""
            from invoke import Context
            from fabbuild import ns, tasks

            c = Context()
            c.config.update(ns.configuration())
            tasks.build(c, source={str(farm.source)!r}, output={str(farm.output)!r}, only="sandbox", quiet=True)
            """
        )
    )
    ended = subprocess.run(
        [str(BIN / "python"), "call.py"],
        cwd=farm.directory,
        env=farm.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended
    assert (farm.output / "current" / "sandbox" / "done").read_text() == "0\n"


def test_completion_loads_neither_fabric_nor_paramiko(farm):
    code = "import sys; from fabbuild import ns; assert not {'fabric', 'paramiko', 'rich', 'msgspec'} & set(sys.modules)"
    subprocess.run([str(BIN / "python"), "-c", code], env=farm.env, check=True)
