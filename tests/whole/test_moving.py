"""Whoever uses buildman can move: every option of its own ``--help`` has its row in the docs, and the row holds."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.census import HANG_LIMIT
from tests.support.farm import ROOT

BUILDMAN = Path(sys.executable).with_name("buildman")
PAGE = ROOT / "docs" / "moving-from-buildman.md"
REFUSED = "not here"


@dataclass(frozen=True)
class Row:
    """One line of the page's table."""

    names: tuple[str, ...]
    here: str
    remarks: str

    @property
    def refused(self) -> bool:
        return self.here == REFUSED

    @property
    def spans(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.here)


def rows_of(text: str) -> list[Row]:
    section = text.split("## Option by option", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == 3 for row in cells), [row for row in cells if len(row) != 3]
    return [Row(tuple(re.findall(r"`([^`]+)`", names)), here, remarks) for names, here, remarks in cells]


ROWS = rows_of(PAGE.read_text())


@pytest.fixture(scope="module")
def peer_options(tmp_path_factory) -> set[tuple[str, ...]]:
    """What the peer's own help lists: the names of each option, and of what it takes without one."""
    home = tmp_path_factory.mktemp("home")
    shown = subprocess.run(
        [str(BUILDMAN), "--help"],
        cwd=home,
        env={**os.environ, "HOME": str(home), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_LIMIT,
    ).stdout
    found = set()
    for line in shown.splitlines():
        heading = re.match(r"  (\S.*?)(?:  |$)", line)
        if heading:
            found.add(tuple(part.split()[0] for part in heading[1].split(", ")))
    return found


@pytest.fixture(scope="module")
def tasks() -> dict[str, set[str]]:
    """The options of each task of this repository as they are typed; asked of a program of its own."""
    program = """
import json
from tasks import ns
print(json.dumps([
    [task.name, *task.aliases, "", *task.flags, *task.flags.aliases, *task.inverse_flags] for task in ns.to_contexts()
]))
"""
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    known = {}
    for words in json.loads(shown):
        names, options = words[: words.index("")], words[words.index("") + 1 :]
        known.update({name: set(options) for name in names})
    return known


def invokes_own() -> set[str]:
    from invoke.program import Program

    return {f"--{name}" for argument in Program().core_args() for name in argument.names if len(name) > 1}


def unknown_of(command: str, tasks: dict[str, set[str]]) -> list[str]:
    """Name the tasks and options of a command that there are not."""
    words = shlex.split(command)
    if words[0] != "inv":
        words = ["inv", "build", *words]
    options, wrong = invokes_own(), []
    expects_task = True
    for word in words[1:]:
        if word.startswith("-"):
            if word.split("=")[0] not in options:
                wrong.append(word)
        elif expects_task:
            expects_task = False
            if word not in tasks:
                wrong.append(word)
            options = tasks.get(word, set()) | {"--help"}
    return wrong


@pytest.mark.skipif(not BUILDMAN.exists(), reason="buildman is not installed in this environment")
def test_each_option_of_the_peer_has_one_row_and_no_row_is_of_another(peer_options):
    assert ("-b", "--branch") in peer_options
    assert ("terms",) in peer_options
    assert len(peer_options) > 80
    rows = [row.names for row in ROWS]
    assert sorted(rows) == sorted(set(rows)), "an option has two rows"
    assert set(rows) == peer_options


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.names[-1])
def test_what_a_row_says_to_type_is_there_and_a_refusal_has_its_reason(row, tasks):
    if row.refused:
        reason, instead, what = row.remarks.partition("Instead: ")
        assert len(reason) > 20, "no reason"
        assert instead
        assert len(what) > 10, "nothing to do instead"
    else:
        assert row.spans, "it says nothing to type"
    commands = [span for span in row.spans if span.startswith(("inv ", "--"))]
    commands += [span for span in re.findall(r"`([^`]+)`", row.remarks) if span.startswith(("inv ", "--"))]
    peers = {name for one in ROWS for name in one.names}
    for command in commands:
        wrong = unknown_of(command, tasks)
        # A remark may also speak of an option of the peer's.
        assert not wrong or (command not in row.spans and command in peers), f"{command}: there is no {wrong}"


def test_a_letter_that_is_taken_here_means_what_it_means_there():
    from fabbuild import ns

    letters = {}
    for task in (ns[name] for name in ns.task_names):
        for argument in task.get_arguments():
            letters.update(
                {(task.name, f"-{one}"): f"--{argument.names[0]}" for one in argument.names if len(one) == 1}
            )
    there = {row.names[0]: row for row in ROWS}
    assert ("build", "-b") in letters
    for (task, letter), option in letters.items():
        named = " ".join(there[letter].spans)
        assert re.search(rf"(?<!\S){option}(?!\S)", named), f"{task} {letter} is {option} here, and there {named}"


def test_a_name_that_is_taken_here_means_what_it_means_there_or_the_page_warns_of_it(tasks):
    (warned,) = re.findall(r"words mean something else here:\n\n(.*?)\n\n", PAGE.read_text(), re.DOTALL)
    others = set(re.findall(r"(?m)^- `(--\w+)`", warned))
    found = set()
    for row in ROWS:
        also = re.findall(r"also taken as `(?:inv \w+ )?(--[\w-]+)`", row.remarks)
        means = {word for span in row.spans for word in span.split()} | set(also)
        taken = [name for name in row.names if name in tasks["build"] | tasks["summary"] and name.startswith("--")]
        found |= {name for name in taken if name not in means and name != "--help"}
    assert found == others


def test_the_page_warns_of_the_letters_that_invoke_takes_for_its_own():
    from invoke.program import Program

    from fabbuild import ns

    invokes = {name for argument in Program().core_args() for name in argument.names if len(name) == 1}
    ours = {name for argument in ns["build"].get_arguments() for name in argument.names if len(name) == 1}
    (sentence,) = re.findall(r"Invoke takes (.*?) for its\s+own", PAGE.read_text(), re.DOTALL)
    assert set(re.findall(r"`-(\w)`", sentence)) == invokes - ours - {"h"}, "-h is help in both"


def explained_keys() -> dict:
    """Read the machines.yaml of this repository with its explained examples made keys."""
    text = (ROOT / "machines.yaml").read_text()
    return yaml.safe_load(re.sub(r"(?m)^( *)#(?! [A-Za-z`])", r"\1", text))


def test_the_keys_of_machines_yaml_that_the_page_names_are_there():
    known = explained_keys()
    machine = {key for entry in known["machines"].values() for key in entry}
    named = [span for row in ROWS for span in row.spans if re.fullmatch(r"[a-zA-Z_.]+\.[a-z_]+", span)]
    assert named
    for path in named:
        first, *others = path.split(".")
        assert first in known, path
        if first == "machines":
            assert others[1] in machine, path
        else:
            assert others[0] in known[first], path


@pytest.mark.skipif(not BUILDMAN.exists(), reason="buildman is not installed in this environment")
def test_each_section_of_the_peers_own_file_has_its_row(tmp_path):
    env = {**os.environ, "HOME": str(tmp_path)}

    def peer(option):
        done = subprocess.run(
            [str(BUILDMAN), option],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_LIMIT,
        )
        return done.stdout

    peer("--list-tool-chains")  # writes its file where there is none
    sections = set(re.findall(r"(?m)^\[([\w-]+)\]", (tmp_path / ".buildman").read_text()))
    sections |= set(re.findall(r"'?\[([\w-]+)\]'? section", peer("--full-help")))
    assert {"toolchain", "toolchain-prefix", "make-flags", "machines", "global"} <= sections
    table = PAGE.read_text().split("section by section", 1)[1].split("\n## ")[0]
    rows = set(re.findall(r"(?m)^\| `\[([\w:-]+)\]`", table))
    assert sections <= rows


def test_the_pages_machines_yaml_is_one(tmp_path):
    from fabbuild.config.machines_file import load_machines

    for example in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (tmp_path / "machines.yaml").write_text(example)
        machines = load_machines(tmp_path / "machines.yaml")
    assert list(machines.machines) == ["local", "ohau", "myserver"]
    assert machines.machines["ohau"].max_boards == 64
    assert machines.machines["local"].env["BUILD_TAG"] == "442"


def test_invokes_help_of_build_leads_to_the_page(tasks):
    from fabbuild import ns

    assert PAGE.name in ns["build"].__doc__
    assert tasks["build"]
