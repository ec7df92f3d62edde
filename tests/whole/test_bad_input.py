"""Bad input and bad machines: one clear line with the next step, the right status, nothing lost or left behind."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.farm import dedent

PYTHON = getattr(sys, "_base_executable", sys.executable)


def one_line_error(ended, *words, status=1):
    """Check that the command failed as it should, and said so in a line with these words."""
    assert ended.status == status, ended
    told = [line for line in (ended.err + ended.out).splitlines() if line.strip()]
    assert "Traceback" not in ended.err, ended
    for word in words:
        assert any(word in line for line in told), (word, ended)
    return told


def git(place, *arguments):
    return subprocess.run(
        ["git", "-C", str(place), "-c", "user.name=T", "-c", "user.email=t@t", *arguments],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def local_farm(farm):
    farm.machines(local=True)
    return farm


# --- machines -----------------------------------------------------------------------------------------------


def test_no_machines_file(farm):
    one_line_error(farm.build(), "machines.yaml", "connection: local")


def test_unknown_machine_or_group(local_farm):
    one_line_error(local_farm.build("--machines", "locla"), "locla", "local")


def test_a_mistake_in_machines_yaml_names_file_line_and_key(farm):
    (farm.directory / "machines.yaml").write_text("machines:\n  m1:\n    hosts: box\n")
    one_line_error(farm.build(), "machines.yaml:3", "hosts", "host")


def test_a_host_that_looks_like_an_option_is_refused_before_anything_runs(farm, tmp_path):
    mark = tmp_path / "executed"
    one_line_error(farm.run("probe", "--hosts", f"-oProxyCommand=touch${{IFS}}{mark}"), "-oProxyCommand")
    assert not mark.exists()


@pytest.mark.deep
def test_a_host_that_times_out_is_named(ssh_farm):
    ssh_farm.servers[0].freeze()
    ended = ssh_farm.build("--only", "sandbox", "--machines", "m1")
    one_line_error(ended, "m1", status=102)
    assert "not built" in ended.out


@pytest.fixture
def tools(tmp_path):
    """A directory with links to some programs, to be all that a machine has in its PATH."""

    def make(*left_out):
        place = tmp_path / f"without-{'-'.join(left_out)}"
        place.mkdir()
        for name in (
            "sh",
            "cat",
            "uname",
            "mkdir",
            "chmod",
            "mv",
            "rm",
            "git",
            "make",
            "gcc",
            "python3",
            "env",
            "ls",
        ):
            # Not `python3` of PATH: that may be a shell script of a version manager.
            found = PYTHON if name == "python3" else shutil.which(name)
            if found and name not in left_out:
                (place / name).symlink_to(os.path.realpath(found))
        return place

    return make


@pytest.fixture
def poor_sshd(tmp_path, tools, farm, census):
    """A machine whose PATH holds only what a test says."""
    from tests.support.sshd import make_sshd

    made = []

    def make(*left_out, path=None):
        base = tmp_path / f"poor{len(made)}"
        base.mkdir()
        place = path or tools(*left_out)
        server = make_sshd(base, "poor", "127.0.0.5")
        # Not by SetEnv: a login shell's start-up file may set PATH again.
        command = f'exec env PATH="{place}" sh -c "$SSH_ORIGINAL_COMMAND"'
        server.config.write_text(f"ForceCommand {command}\n{server.config.read_text()}")
        server.start()
        made.append(server)
        farm.env["INVOKE_FABBUILD_SSH_CONFIG"] = str(server.ssh_config)
        farm.machines(server)
        return server

    yield make
    for server in made:
        server.kill(everything=True)


@pytest.mark.parametrize("missing", ["python3", "git", "make"])
def test_a_machine_without_a_tool_says_which_one(farm, poor_sshd, missing):
    poor_sshd(missing)
    one_line_error(farm.run("probe"), missing)
    one_line_error(farm.build("--only", "sandbox"), missing, status=102)


def test_a_python_that_is_too_old_says_so(farm, poor_sshd, tools, tmp_path):
    place = tools("python3")
    old = place / "python3"
    # The interpreter's version is all that the worker's first lines look at.
    old.write_text(
        dedent(
            f"""
            #!/bin/sh
            exec {PYTHON} -c '
            import runpy, sys
            sys.version_info = (3, 6, 9, "final", 0)
            sys.argv = sys.argv[1:]
            while sys.argv[0].startswith("-") and sys.argv[0] != "-c":
                del sys.argv[0]
            if sys.argv[0] == "-c":
                code, sys.argv = sys.argv[1], ["-c"] + sys.argv[2:]
                exec(code)
            else:
                runpy.run_path(sys.argv[0], run_name="__main__")
            ' "$@"
            """
        )
    )
    old.chmod(0o755)
    poor_sshd(path=place)
    one_line_error(farm.run("probe"), "3.6", "3.8")


@pytest.mark.deep
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_on_a_machine_is_that_machines_fault(ssh_farm):
    place = ssh_farm.servers[0].directory / "small"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)], check=True)
    try:
        ssh_farm.write_machines(
            {
                "machines": {
                    "m1": {"host": "m1", "work_dir": f"{place}/work"},
                    "m2": {"host": "m2", "work_dir": str(ssh_farm.servers[1].work_dir)},
                },
                "fit": {"max_load_per_cpu": 1000, "min_disk_mb": 0},
            }
        )
        ended = ssh_farm.build("--only", "sandbox")
        assert ended.status == 0, ended
        assert "No space left on device" in ended.out
        assert (ssh_farm.output / "current/sandbox/host").read_text() == "m2\n"
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_work_dir_that_cannot_be_written_is_named(ssh_farm):
    ssh_farm.write_machines(
        {"machines": {"m1": {"host": "m1", "work_dir": "/proc/fabbuild"}}, "fit": {"max_load_per_cpu": 1000}}
    )
    one_line_error(ssh_farm.run("init"), "m1", "/proc/fabbuild")
    one_line_error(ssh_farm.build("--only", "sandbox"), "/proc/fabbuild", status=102)


# --- source, range, boards, output --------------------------------------------------------------------------


def test_a_board_term_that_takes_nothing(local_farm):
    one_line_error(local_farm.build("--boards", "ramb"), "ramb")


def test_an_exact_board_that_does_not_exist(local_farm):
    one_line_error(local_farm.build("--only", "sandbx"), "sandbx", "did you mean sandbox")


def test_a_range_that_is_no_range(local_farm, tmp_path):
    one_line_error(local_farm.build("--commits", "nothing..here"), "nothing")
    one_line_error(local_farm.build("--branch", "nosuch"), "nosuch")
    option = f"--output={tmp_path / 'made'}"
    one_line_error(local_farm.build(f"--commits={option}"), option)
    assert not (tmp_path / "made").exists()


def test_a_source_that_is_no_kbuild_tree_or_no_repository(local_farm, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    one_line_error(local_farm.run("build", "--source", str(empty)), str(empty), "git")
    git(empty, "init", "-q")
    one_line_error(local_farm.run("build", "--source", str(empty)), str(empty))
    one_line_error(local_farm.run("build", "--source", str(tmp_path / "nowhere")), "nowhere")


def test_an_output_that_is_not_writable(local_farm):
    one_line_error(
        local_farm.run("build", "--source", str(local_farm.source), "--output", "/proc/out", "--only", "sandbox"),
        "/proc/out", "--output",
    )  # fmt: skip


def test_bad_values_of_options(local_farm):
    one_line_error(local_farm.build("--toolchain", "arm"), "ARCH=")
    one_line_error(local_farm.build("--step=-2"), "step")
    one_line_error(local_farm.build("--count", "many"), "count", "many")
    one_line_error(
        local_farm.build(INVOKE_FABBUILD_COUNT="many"),
        'the variable INVOKE_FABBUILD_COUNT: count is the text "many"; it must be a whole number',
    )
    one_line_error(local_farm.run("build", "--source", "~nosuchuser/x"), "~nosuchuser/x")
    one_line_error(local_farm.run("build", "--source", "x" * 300), "x" * 300)


def test_a_bad_key_is_said_to_be_of_the_file_that_has_it(local_farm):
    (local_farm.directory / "invoke.yaml").write_text("fabbuild: {count: many}\n")
    one_line_error(local_farm.build(), 'the configuration key fabbuild (invoke.yaml): count is the text "many"')
    (local_farm.directory / "fabric.yaml").write_text("fabbuild: {step: x}\n")
    ended = local_farm.run("build", program="fab")
    one_line_error(ended, 'the configuration key fabbuild (fabric.yaml): step is the text "x"')


def test_a_variable_that_is_misspelt_is_named(local_farm):
    ended = local_farm.run(
        "history", INVOKE_FABBUILD_SORCE="/x", INVOKE_FABBUILD_SOURCE="/y", INVOKE_FABBUILD_Z="1"
    )
    assert ended.status == 0
    begin, does_nothing = "fabbuild: the variable INVOKE_FABBUILD_", " is not one of fabbuild's and has no effect"
    assert ended.err.splitlines() == [
        f"{begin}SORCE{does_nothing}; did you mean INVOKE_FABBUILD_SOURCE?",
        f"{begin}Z{does_nothing}",
    ]
    assert "FABRIC_FABBUILD_BORDS" in local_farm.run("history", program="fab", FABRIC_FABBUILD_BORDS="x").err


def test_branches_that_share_a_directory_name_do_not_share_results(local_farm):
    source = local_farm.source
    for name in ("a/b", "a_b", "current"):
        git(source, "branch", name, "series")
        git(source, "config", f"branch.{name}.remote", ".")
        git(source, "config", f"branch.{name}.merge", "refs/heads/main")
    assert local_farm.build("--branch", "a/b", "--only", "tern", "--step", "0").status == 101
    one_line_error(local_farm.build("--branch", "a_b", "--only", "tern"), "holds the results of 'a/b'")
    one_line_error(local_farm.build("--branch", "current", "--only", "tern"), "current source")


def test_a_commit_at_another_place_of_the_range_keeps_its_results(local_farm):
    assert local_farm.build("--branch", "series", "--only", "tern").status == 101
    again = local_farm.build("--branch", "series", "--count", "2", "--only", "tern")
    assert again.status == 101, again
    assert "0 results to build, 2 there already" in again.out


def test_a_page_that_cannot_be_written_is_said_before_anything_is_built(local_farm):
    nowhere = str(local_farm.directory / "no" / "y.html")
    one_line_error(
        local_farm.build("--only", "tern", "--report", nowhere), f"--report {nowhere}: there is no directory"
    )
    assert not local_farm.output.exists()


def test_another_environment_of_make_builds_anew(local_farm):
    assert local_farm.build("--only", "sandbox").status == 0
    assert "1 there already" in local_farm.build("--only", "sandbox").out
    local_farm.machines(local=True, env={"KCFLAGS": "-DSOMETHING"})
    assert "1 result to build" in local_farm.build("--only", "sandbox").out


def test_uncommitted_edits_are_built_and_the_worktree_stays_as_it_is(local_farm):
    source = local_farm.source
    (source / "drivers" / "broken.c").write_text("#error this is new\n")
    makefile = source / "Makefile"
    before = {path: path.stat() for path in source.rglob("*") if ".git" not in path.parts}
    status = git(source, "status", "--porcelain")
    ended = local_farm.build("--only", "sandbox")
    assert ended.status == 0, ended
    with (source / "common" / "main.c").open("a") as file:
        file.write("\n#error an edit that is not committed\n")
    ended = local_farm.build("--only", "sandbox")
    one_line_error(ended, "an edit that is not committed", status=100)
    git(source, "checkout", "common/main.c")
    assert git(source, "status", "--porcelain") == status
    assert makefile.stat().st_mtime_ns == before[makefile].st_mtime_ns
    assert git(source, "stash", "list") == ""
    assert git(source, "branch", "--format=%(refname:short)").split() == ["main", "series"]
    # Mended again: "done" is by the same source, so it is built anew.
    assert local_farm.build("--only", "sandbox").status == 0


def test_a_board_that_a_commit_does_not_have_yet_is_built_where_it_is(local_farm):
    source = local_farm.source
    git(source, "checkout", "-q", "-b", "later")
    git(source, "config", "branch.later.remote", ".")
    git(source, "config", "branch.later.merge", "refs/heads/main")
    shutil.copy(source / "configs/sandbox_defconfig", source / "configs/newborn_defconfig")
    git(source, "add", "-A")
    git(source, "commit", "-qm", "Add a board")
    ended = local_farm.build("--branch", "later", "--only", "newborn,sandbox")
    assert ended.status == 0, ended
    assert "1 other is not there" in ended.out
    done = {key: (path / "done").read_text() for key, path in local_farm.results("later").items()}
    assert sorted((key[0][:2], key[1], text) for key, text in done.items()) == [
        ("01", "sandbox", "0\n"), ("02", "newborn", "0\n"), ("02", "sandbox", "0\n"),
    ]  # fmt: skip


def test_a_defconfig_that_fails_is_that_boards_failure(local_farm):
    (local_farm.source / "configs/odd_defconfig").write_text("#include <configs/nowhere.config>\n")
    ended = local_farm.build("--only", "odd,sandbox")
    one_line_error(ended, "odd", "nowhere.config", "its defconfig cannot be evaluated", status=102)
    assert (local_farm.output / "current/sandbox/done").read_text() == "0\n"


def test_a_configuration_that_make_refuses_is_that_boards_failure(local_farm):
    (local_farm.source / "configs/odd_defconfig").write_text("CONFIG_SANDBOX=y\nCONFIG_SYS_NO_SUCH THING\n")
    (local_farm.source / "scripts/kconfig/refuse").write_text("")
    ended = local_farm.build("--only", "odd,sandbox")
    assert (local_farm.output / "current/sandbox/done").read_text() == "0\n"
    assert ended.status in (100, 101), ended


@pytest.mark.deep
def test_a_make_that_prints_50_mb_is_cut_with_a_note(local_farm):
    makefile = local_farm.source / "Makefile"
    makefile.write_text(
        makefile.read_text()
        + "\n$(info $(shell yes a rather long line of output that says nothing | head -c 50000000 >&2))\n"
    )
    ended = local_farm.build("--only", "sandbox")
    assert ended.status == 101, ended
    err = local_farm.output / "current/sandbox/err"
    assert err.stat().st_size < 3_000_000
    assert "bytes" in err.read_text(), "the note of how much was cut"


def test_output_that_is_not_utf8_and_control_characters_are_shown_not_sent(local_farm):
    makefile = local_farm.source / "Makefile"
    makefile.write_text(
        makefile.read_text()
        + r"""
$(info $(shell printf 'warning: caf\351 \033[31mred\033[0m \007\n' >&2))
"""
    )
    ended = local_farm.build("--only", "sandbox")
    assert ended.status == 101, ended
    assert "\x1b" not in ended.out
    assert "\x07" not in ended.out
    assert "caf\ufffd" in (local_farm.output / "current/sandbox/err").read_text()


def test_board_names_with_odd_characters_harm_nothing(local_farm):
    names = ["odd board", "a$(touch x)", "semi;colon", "-dash", "quote'", "a=b"]
    for name in names:
        shutil.copy(
            local_farm.source / "configs/sandbox_defconfig", local_farm.source / f"configs/{name}_defconfig"
        )
    ended = local_farm.build("--boards", "sandbox")
    assert ended.status in (0, 100), ended
    assert (local_farm.output / "current/sandbox/done").read_text() == "0\n"
    left_out = [line for line in ended.err.splitlines() if "is left out: " in line]
    assert len(left_out) == len(names), ended
    assert all(any(name in line for line in left_out) for name in names), left_out
    assert not list(local_farm.directory.rglob("x"))


def test_branches_with_odd_characters(local_farm):
    source = local_farm.source
    for name in ("feature/x", "ünï", "quote'", "semi;colon"):
        git(source, "branch", name, "series")
        git(source, "config", f"branch.{name}.remote", ".")
        git(source, "config", f"branch.{name}.merge", "refs/heads/main")
        ended = local_farm.build("--branch", name, "--only", "sandbox", "--step", "0", "--no-reuse")
        assert ended.status == 101, ended
        assert len(local_farm.results(name.replace("/", "_"))) == 2


def test_a_toolchain_that_is_named_and_not_there_is_said_so(local_farm):
    ended = local_farm.build("--toolchain", "arm=nosuch-", "--only", "tern,sandbox")
    words = "no machine has a toolchain for arm; nosuch-, which was named for it, is not on local"
    one_line_error(ended, "nosuch-, was not found there", words, status=102)
    assert "elsewhere" not in ended.out
    ended = local_farm.build("--toolchain", "arm=nosuch-", "--only", "tern")
    one_line_error(ended, words, status=102)


def test_a_part_of_a_branch_leaves_the_results_of_the_rest(local_farm):
    assert local_farm.build("--branch", "series", "--only", "tern").status == 101
    assert local_farm.build("--branch", "series", "--count", "2", "--only", "tern").status == 101
    again = local_farm.build("--branch", "series", "--only", "tern")
    assert "0 results to build, 6 there already" in again.out, again


def test_commits_that_left_the_branch_are_removed_and_said_so(local_farm):
    assert local_farm.build("--branch", "series", "--only", "tern").status == 101
    git(local_farm.source, "branch", "-f", "series", "series~2")
    ended = local_farm.build("--branch", "series", "--only", "tern")
    assert ended.status == 0, ended
    assert "removed results of 2 commits no longer in the range" in ended.out
    assert len(local_farm.results("series")) == 4


def test_a_machines_own_path_is_where_toolchains_are_looked_for(farm, tmp_path):
    place = tmp_path / "compilers"
    place.mkdir()
    compiler = place / "mips-linux-gnu-gcc"
    compiler.write_text('#!/bin/sh\n[ "$1" = -dumpmachine ] && exec echo mips-linux-gnu\nexec gcc "$@"\n')
    compiler.chmod(0o755)
    farm.machines(local=True, env={"PATH": f"{place}:{os.environ['PATH']}"})
    ended = farm.run("toolchains")
    assert str(compiler) in ended.out, ended


def test_an_arch_no_machine_has_is_named_and_counted(local_farm):
    if shutil.which("powerpc-linux-gnu-gcc"):
        pytest.skip("this machine has a compiler for powerpc")
    ended = local_farm.build("--only", "osprey,sandbox")
    one_line_error(ended, "osprey", "no machine has a toolchain for powerpc", status=102)
    assert (local_farm.output / "current/sandbox/done").read_text() == "0\n"
