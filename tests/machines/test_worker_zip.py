"""The zipapp, and the shell lines that place and run it."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fabbuild.machines import worker_zip
from fabbuild.machines.worker_zip import shell_memory, shell_place, shell_run, worker_program
from fabbuild.protocol.names import PROGRAM
from tests.support.supervised import old_python

ODD_NAMES = [
    "plain",
    "with space",
    "it's",
    'say "x"',
    "$HOME `id` ;&|<>()*?[]{}!#~",
    "-dash",
    "ümläut",
    "a\\b",
]

SHELLS = [shell for shell in ("dash", "bash", "zsh", "fish", "ksh", "mksh", "busybox") if shutil.which(shell)]


def sh(line: str, data: bytes = b"", **env: str) -> subprocess.CompletedProcess:
    assert "\n" not in line
    environment = {**os.environ, **env}
    return subprocess.run(["sh", "-c", line], input=data, capture_output=True, env=environment, check=False)


def answers(done: subprocess.CompletedProcess) -> list[dict]:
    assert done.stderr == b""
    return [json.loads(line.removeprefix(b"BM> ")) for line in done.stdout.splitlines()]


@pytest.fixture
def path_without(tmp_path):
    """Make a PATH that has the usual tools but not these: ``path_without("python3")``."""

    def make(*names: str) -> str:
        folder = tmp_path / "tools"
        folder.mkdir()
        for tool in ("sh", "cat", "mkdir", "wc", "chmod", "mv", "rm", "uname", "git", "python3"):
            if tool not in names:
                found = sys.executable if tool == "python3" else shutil.which(tool)
                (folder / tool).symlink_to(found)
        return str(folder)

    return make


def test_the_same_source_makes_the_same_bytes():
    one = worker_program()
    worker_program.cache_clear()
    assert worker_program() == one
    assert one.name == f"worker-{one.sha256}.pyz"
    code = "from fabbuild.machines.worker_zip import worker_program; print(worker_program().sha256)"
    root = Path(worker_zip.__file__).parents[1]
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert other.stdout.strip() == one.sha256


def test_holds_the_worker_and_nothing_of_the_boss():
    names = zipfile.ZipFile(io.BytesIO(worker_program().data)).namelist()
    assert {"__main__.py", "fabbuild/__init__.py", "fabbuild/worker/main.py"} <= set(names)
    assert all(name.startswith(("fabbuild/worker/", "fabbuild/protocol/")) for name in names if name.count("/") > 1)
    assert all(name.endswith(".py") for name in names)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_is_placed_once_and_runs_from_any_directory(tmp_path, name):
    made = worker_program()
    work = str(tmp_path / name)
    first = sh(shell_place(work, made), made.data)
    assert (first.returncode, first.stdout, first.stderr) == (0, b"send\n", b"")
    path = tmp_path / name / "bin" / made.name
    assert path.read_bytes() == made.data
    assert path.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == [made.name]
    second = sh(shell_place(work, made))
    assert (second.returncode, second.stdout) == (0, b"have\n")
    (said,) = answers(sh(shell_run(work, made, ["kill", "--work-dir", work])))
    assert said == {"resp": "killed", "pids": [], "left": [], "holder": None}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ['it\'s a "dir" $x', "plain"])
def test_lines_survive_a_login_shell_of_whatever_kind(tmp_path, shell, name):
    made = worker_program()
    work = str(tmp_path / name)
    argv = ["busybox", "sh", "-c"] if shell == "busybox" else [shell, "-c"]
    for line, data, words in (
        (shell_place(work, made), made.data, b"send"),
        (shell_run(work, made, ["facts", "--json", json.dumps({"work_dir": work})]), b"", b'"resp": "facts"'),
        (shell_memory(["kill", "--work-dir", work]), made.data, b'"resp": "killed"'),
    ):
        wrapped = "exec sh -c " + shlex.quote(line)
        done = subprocess.run([*argv, wrapped], input=data, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert words in done.stdout


@pytest.mark.parametrize(
    ("work_dir", "env", "expected"),
    [
        ("", {}, "home/.cache/fabbuild/NODE"),
        ("", {"XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/fabbuild/NODE"),
        ("", {"XDG_CACHE_HOME": "relative"}, "home/.cache/fabbuild/NODE"),
        ("~/my builds", {}, "home/my builds"),
        ("~", {}, "home"),
        ("builds/x", {}, "home/builds/x"),
    ],
)
def test_shell_and_python_mean_the_same_directory(tmp_path, work_dir, env, expected):
    made = worker_program()
    (tmp_path / "home").mkdir()
    variables = {"XDG_CACHE_HOME": "", "HOME": str(tmp_path / "home")}
    variables |= {name: value.format(tmp=tmp_path) for name, value in env.items()}
    wanted = tmp_path / expected.replace("NODE", os.uname().nodename)
    assert sh(shell_place(work_dir, made), made.data, **variables).returncode == 0
    assert (wanted / "bin" / made.name).exists()
    request = json.dumps({"work_dir": work_dir})
    (said,) = answers(sh(shell_run(work_dir, made, ["facts", "--json", request]), **variables))
    assert said["work_dir"] == str(wanted)


def test_what_is_cut_short_on_its_way_is_not_put_in_place(tmp_path):
    made = worker_program()
    done = sh(shell_place(str(tmp_path), made), made.data[:-1])
    assert done.returncode == worker_zip.NO_PLACE
    assert b"was not written" in done.stderr
    assert os.listdir(tmp_path / "bin") == []
    done = sh(shell_memory(["kill"], made), made.data[:-1])
    assert done.returncode == 1
    assert done.stderr == b"the worker program was cut short on its way here\n"


@pytest.mark.parametrize("spoil", [lambda data: data[:100], lambda data: bytes(len(data))])
def test_one_that_is_there_but_not_whole_is_sent_again(tmp_path, spoil):
    made = worker_program()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / made.name).write_bytes(spoil(made.data))
    assert sh(shell_place(str(tmp_path), made), made.data).stdout == b"send\n"
    assert (tmp_path / "bin" / made.name).read_bytes() == made.data


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A program in a work directory, and what it keeps there with byte code, made by a first command."""
    monkeypatch.delenv("FABBUILD_DIGESTS")
    made = worker_program()
    sh(shell_place(str(tmp_path), made), made.data)
    line = shell_run(str(tmp_path), made, ["kill", "--work-dir", str(tmp_path / "none")])
    assert answers(sh(line))[0]["resp"] == "killed"
    (copy,) = {path for path in (tmp_path / "bin").iterdir() if path.name != made.name}
    return line, copy


def test_byte_code_is_kept_beside_the_program_and_run_from_then_on(kept):
    line, copy = kept
    assert copy.name.startswith(f"{worker_program().name}.")
    assert PROGRAM.fullmatch(copy.name)
    assert copy.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(copy) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.endswith(".pyc")} == {
        f"{name}c" for name in names if name.endswith(".py")
    }
    with zipfile.ZipFile(copy, "w") as archive:
        archive.writestr("fabbuild/__init__.py", "")
        archive.writestr("fabbuild/worker/__init__.py", "")
        archive.writestr("fabbuild/worker/main.py", 'def main(argv): print(\'BM> {"resp": "of the copy"}\')')
    assert answers(sh(line)) == [{"resp": "of the copy"}]


@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: data[:-1], lambda data: bytes(len(data))])
def test_byte_code_that_is_not_whole_is_not_run(kept, spoil):
    line, copy = kept
    copy.write_bytes(spoil(copy.read_bytes()))
    assert answers(sh(line))[0]["resp"] == "killed"


def test_where_no_byte_code_can_be_kept_it_runs_without(tmp_path, monkeypatch):
    monkeypatch.setenv("FABBUILD_DIGESTS", str(tmp_path / "nowhere"))
    line = shell_memory(["kill", "--work-dir", str(tmp_path / "none")])
    assert answers(sh(line, worker_program().data))[0]["resp"] == "killed"
    assert not (tmp_path / "nowhere").exists()


def test_without_sha256sum_the_length_is_believed(tmp_path, path_without):
    made = worker_program()
    line = f"PATH={path_without('sha256sum')}; {shell_place(str(tmp_path), made)}"
    assert [sh(line, made.data).stdout for _ in range(2)] == [b"send\n", b"have\n"]


def test_where_no_directory_can_be_made_the_systems_words_are_given(tmp_path):
    (tmp_path / "file").touch()
    done = sh(shell_place(str(tmp_path / "file" / "work"), worker_program()))
    assert done.returncode == worker_zip.NO_PLACE
    assert b"Not a directory" in done.stderr


def test_without_home_it_asks_for_a_work_dir():
    done = sh(f"unset HOME; {shell_place('', worker_program())}")
    assert done.returncode == worker_zip.NO_PLACE
    assert b"HOME is not set" in done.stderr


def test_without_python_it_says_so(path_without, tmp_path):
    path = path_without("python3")
    made = worker_program()
    for line in (shell_run(str(tmp_path), made, ["kill"]), shell_memory(["kill"])):
        done = sh(line, PATH=path)
        assert done.returncode == worker_zip.NO_PYTHON
        assert done.stderr.startswith(b"no python3 on this machine")


def test_from_memory_also_where_python_knows_no_memfd():
    line = shell_memory(["kill"]).replace('"memfd_create"', '"no_such_name"')
    assert answers(sh(line, worker_program().data))[0]["resp"] == "killed"


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_a_python_that_is_too_old_is_named_in_one_line(pyz, version):
    python = old_python(version)
    words = f"python3 on this machine is {version}; fabbuild's worker needs 3.8 or newer\n"
    done = subprocess.run([python, "-E", "-s", pyz, "kill"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (worker_zip.OLD_PYTHON, "", words)
    line = shell_memory(["kill"]).replace("exec python3", f"exec {python}")
    done = sh(line, worker_program().data)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (worker_zip.OLD_PYTHON, b"", words)


def test_all_but_builds_work_on_the_oldest_python(pyz, tmp_path):
    python = old_python("3.8")
    line = shell_memory(["facts"]).replace("exec python3", f"exec {python}")
    (said,) = answers(sh(line, worker_program().data))
    assert said["python"].startswith("3.8.")
    for command in ("kill", "clean"):
        done = subprocess.run(
            [python, "-W", "error", pyz, command, "--work-dir", tmp_path / "none"],
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_newline_in_a_work_directory_is_refused():
    with pytest.raises(ValueError, match="control character"):
        shell_place("/a\nb", worker_program())


@pytest.mark.parametrize("args", [["kill", "--work-dir", "a'b\\c!\n"], ["kill", "--work-dir", "ü"]])
def test_odd_arguments_go_as_hexadecimal(args):
    line = shell_memory(args)
    assert re.search(r"--hex [0-9a-f]+$", line)
    assert "\n" not in line
    (said,) = answers(sh(line, worker_program().data))
    assert said["resp"] == "killed"
