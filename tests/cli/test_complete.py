"""What the shells complete: tasks and options by Invoke, values by us; in real shells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fabbuild.cli import complete, completion_scripts
from fabbuild.cli.complete import TASKS, candidates
from fabbuild.errors import UsageError
from tests.support.census import HANG_LIMIT
from tests.support.farm import BIN, ROOT

MACHINES = """
machines:
  kea: {host: kea, groups: [fast, big]}
  kiwi: {host: kiwi, groups: [fast]}
  local: {connection: local}
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A source with two boards, a list of machines, branches, and what is kept of the boards."""
    (tmp_path / "configs").mkdir()
    for name in ("tern", "teal", "sandbox", "e,f", "\xe4"):
        (tmp_path / "configs" / f"{name}_defconfig").touch()
    (tmp_path / "machines.yaml").write_text(MACHINES)
    kept = tmp_path / "cache" / "fabbuild" / "boards"
    kept.mkdir(parents=True)
    boards = [{"target": "tern", "arch": "arm", "cpu": "armv7", "soc": "", "vendor": "acme"}]
    (kept / "k.json").write_text(json.dumps({"boards": boards}))
    monkeypatch.setattr("fabbuild.cli.complete.PATIENCE", HANG_LIMIT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "configs"],
        ["commit", "-q", "-m", "x"],
        ["branch", "series/led"],
        ["tag", "v1"],
    ):
        subprocess.run([*git, *words], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["build", "--machines", "k"], ["kea", "kiwi"]),
        (["build", "--machines", ""], ["all", "big", "fast", "kea", "kiwi", "local"]),
        (["probe", "--use-machines", "kea,"], ["kea,all", "kea,big", "kea,fast", "kea,kiwi", "kea,local"]),
        (["build", "--boards", "te"], ["teal", "tern"]),
        (["build", "--boards", "a"], ["acme", "arm", "armv7"]),
        (["build", "--boards", "'arm & te"], ["arm & teal", "arm & tern"]),
        (["build", "-x", "tern,te"], ["tern,teal"]),
        (["fabbuild.build", "--only", "a"], []),
        (["build", "--only", "tern,sand"], ["tern,sandbox"]),
        (["build", "--only", "e"], [r"e\,f"]),
        (["build", "--only", r"e\,"], [r"e\,f"]),
        (["build", "--only", r"e\,f,s"], [r"e\,f,sandbox"]),
        (["build", "--only", r"tern,e\,"], [r"tern,e\,f"]),
        (["build", r"--only=tern,e\,"], [r"--only=tern,e\,f"]),
        (["build", "--boards", "arm & e"], [r"arm & e\,f"]),
        (["build", "--only", r"e\,f,e"], []),
        (["build", "--only", "\xe4"], ["\xe4"]),
        (["toolchains", "--prefix", "e"], [r"e\,f"]),
        (["toolchains", "--prefix", "sa"], ["sandbox"]),
        (["summary", "--branch", ""], ["main", "series/led"]),
        (["build", "-b", "se"], ["series/led"]),
        (["build", "--commits", "v"], ["v1"]),
        (["build", "--commits", "v1..s"], ["v1..series/led"]),
        (["summary", "--arch", ""], ["arm"]),
        (["boards", "--reading", "configs/t"], ["configs/teal_defconfig", "configs/tern_defconfig"]),
        (["boards", "--reading=configs/s"], ["--reading=configs/sandbox_defconfig"]),
        (["completion", "--shell", ""], ["bash", "fish", "zsh"]),
        (["build", "--source", "nowhere", "--branch", ""], []),
        (["build", "--machines-file", "nowhere", "--machines", ""], []),
        (["build", "--mach"], None),
        (["bu"], None),
        ([], None),
        (["build", "--output", ""], None),
        (["build", "--quiet", ""], None),
        (["of-another", "--boards", "te"], None),
    ],
)  # fmt: skip
def test_what_could_stand_at_the_cursor(here, words, expected):
    assert candidates("zsh", words, here, {}) == expected


def test_an_option_with_its_value_in_one_word_is_three_in_bash(here):
    assert candidates("zsh", ["build", "--boards=te"], here, {}) == ["--boards=teal", "--boards=tern"]
    assert candidates("bash", ["build", "--boards", "=", "te"], here, {}) == ["teal", "tern"]
    assert candidates("bash", ["build", "--shell", "="], here, {}) == ["bash", "fish", "zsh"]
    given = ["build", "--source", "=", str(here), "--only", "te"]
    assert candidates("bash", given, Path("/"), {}) == ["teal", "tern"]
    assert candidates("zsh", ["build", f"--source={here}", "--only", "te"], Path("/"), {}) == ["teal", "tern"]
    assert candidates("zsh", ["build", "--only", "te"], Path("/"), {"INVOKE_FABBUILD_SOURCE": str(here)}) == [
        "teal",
        "tern",
    ]


def test_a_name_with_an_at_sign_is_three_words_in_bash(here):
    (here / "configs" / "f@st_defconfig").touch()
    assert candidates("zsh", ["build", "--only", "f@s"], here, {}) == ["f@st"]
    assert candidates("bash", ["build", "--only", "f"], here, {}) == ["f@st"]
    for words in (["f", "@", "s"], ["f", "@", ""], ["f", "@"], ["tern,f", "@", "s"]):
        assert candidates("bash", ["build", "--only", *words], here, {}) == ["st"], words
    assert candidates("bash", ["build", "--only", "=", "f", "@", "s"], here, {}) == ["st"]


def test_a_backslash_is_written_as_the_shell_takes_it(here):
    for word, offered in {
        "e": r"e\\,f",
        r"e\\,": r"e\\,f",
        r"tern,e\\,": r"tern,e\\,f",
        "'e": r"e\,f",
        r"'e\,": r"e\,f",
        r'"e\,': r"e\,f",
    }.items():
        assert candidates("bash", ["build", "--only", word], here, {}) == [offered], word
    for word in ("e", r"e\\,", r"'e\,"):  # what is offered in fish is quoted by fish
        assert candidates("fish", ["build", "--only", word], here, {}) == [r"e\,f"], word


def test_a_branch_whose_name_the_terminal_cannot_show_is_not_offered(here):
    subprocess.run(["git", "-C", str(here), "branch", b"series/\xe4"], check=True)
    subprocess.run(["git", "-C", str(here), "branch", "series/\xe4"], check=True)
    assert candidates("zsh", ["build", "--branch", "se"], here, {}) == ["series/led", "series/\xe4"]


@pytest.mark.parametrize("text", ["[", "machines: [a]", "machines: {a: 3}", "3", "", "machines: {1: {groups: 3}}"])
def test_a_list_of_machines_that_is_none_is_no_trouble(here, text):
    (here / "machines.yaml").write_text(text)
    assert isinstance(candidates("bash", ["build", "--machines", "zz"], here, {}), list)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"boards": 3}', '{"boards": [3, {"target": 3}]}'])
def test_what_is_kept_of_boards_may_be_anything(here, text):
    (here / "cache" / "fabbuild" / "boards" / "k.json").write_text(text)
    assert candidates("bash", ["build", "--boards", "te"], here, {}) == ["teal", "tern"]


def test_the_tasks_it_knows_are_all_there_are():
    from fabbuild.cli.tasks import collection

    made = collection()
    names = {*made.tasks, *made.tasks.aliases}
    assert names == TASKS, "fabbuild/cli/complete.py: TASKS"


def test_what_an_option_says_it_completes_is_completed():
    from fabbuild.cli.tasks import collection

    for task in collection().tasks.values():
        for name, option in task.options.items():
            assert complete._completes(option.words(name)[0]) == option.completes, (task.name, name)
            assert option.completes in {"", *complete.KINDS}


def test_it_loads_the_table_of_options_and_neither_invoke_nor_the_rest_of_fabbuild(here):
    (here / "configs" / "e,f_defconfig").unlink()  # such a name needs a module more
    program = (
        "import sys; from fabbuild.complete import main; assert main(['bash', 'build', '--boards', 'te']) == 0; "
        "main(['bash', 'build', '--machines', 'k']); "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('fabbuild', 'invoke', 'fabric', 'msgspec', 'rich') "
        "and not m.startswith(('fabbuild.config', 'fabbuild.protocol'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "teal",
        "tern",
        "kea",
        "kiwi",
        str(
            [
                "fabbuild",
                *(
                    f"fabbuild.{name}"
                    for name in ("cli", "cli.complete", "cli.options", "complete", "errors", "text")
                ),
            ]
        ),
    ]


def test_a_module_beside_the_user_is_not_loaded(here):
    (here / "yaml.py").write_text("raise SystemExit('loaded')")
    done = subprocess.run(
        [sys.executable, "-m", "fabbuild.complete", "bash", "build", "--machines", "ki"],
        cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("kiwi\n", "")


def test_a_shell_that_there_is_no_script_for_is_said():
    with pytest.raises(UsageError, match="--shell is tcsh; it must be one of: bash, fish, zsh"):
        completion_scripts.script("tcsh")
    with pytest.raises(UsageError, match="--shell is missing"):
        completion_scripts.script("")


# --- real shells ---

# Each gets the words of a command line and prints what its completion offers, a line each. compadd and _files are
# zsh's own and can be called from its line editor alone; all else is the script as the user has it.
BASH = """
eval "$(inv completion --shell bash)"
for program in inv invoke fab fabbuild; do
    [ "$(complete -p $program)" = "complete -o default -F _fabbuild_complete $program" ] || exit 3
done
asked() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _fabbuild_complete "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s ' "${COMPREPLY[@]}"; echo
}
"""
ZSH = """
compdef() { registered="$*" }
eval "$(inv completion --shell zsh)"
[[ $registered == "_fabbuild_complete inv invoke fab fabbuild" ]] || exit 3
compadd() { print -r -- ${(M)found:#$words[CURRENT]*} }
_files() { print -r -- files }
compset() { true }
asked() { local -a words; words=("$@"); local CURRENT=$#words PREFIX=$words[-1]; _fabbuild_complete }
"""
FISH = """
inv completion --shell fish | source
function asked
    set -l line (string escape --no-quoted -- $argv[1..-2]) (string trim -- "$argv[-1]")
    echo (complete -C (string join ' ' -- $line) | string replace -r '\\t.*' '')
end
"""


@pytest.mark.parametrize(("shell", "script"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])
def test_in_a_real_shell_values_are_ours_and_all_else_is_invokes(here, shell, script):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    (here / "tasks.py").write_text("from fabbuild import ns\n")
    equals = "'--boards' '=' 'ter'" if shell == "bash" else "'--boards=ter'"
    lines = [
        "asked inv build --machines ki",
        "asked inv build --only tern,te",
        "asked inv build --only e",
        f"asked inv build {equals}",
        "asked inv build --max-b",
    ]
    env = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(here),
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
    }
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *flags, "-c", script + "\n".join(lines)],
        cwd=here,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_LIMIT,
    )
    assert done.returncode == 0, done
    front = "" if shell == "bash" else "--boards="
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["kiwi"],
        ["tern,teal"],
        [r"e\\,f" if shell == "bash" else r"e\,f"],
        [f"{front}tern"],
        ["--max-boards"],
    ], done
