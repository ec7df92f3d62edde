"""Every command line of `inv` and `fab` that the pages and the README show: the task and its options are there."""

import re
import shlex

import pytest

from tests.support.docs import DOCS, PAGES
from tests.support.farm import ROOT

FILES = [*PAGES, *sorted((DOCS / "tasks").glob("*.md")), ROOT / "README.md"]

#: Tasks of this repository alone, and those of the examples.
ELSEWHERE = {"demo", "test", "docs", "fabbuild.build"}


def command_lines(text):
    """Give each command line in blocks of shell, and in backquotes."""
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            yield from re.findall(r"(?:^|\$ |&& |[\w/.]*/)((?:inv|fab) .*?)(?:$| && | \| |  +#)", line)
    yield from re.findall(r"`((?:inv|fab) [^`…]*)`", text)


def options_of(task):
    names = set()
    for argument in task.get_arguments():
        for name in argument.names:
            dashed = name.replace("_", "-")
            names |= {f"--{dashed}", f"--no-{dashed}"} if len(name) > 1 else {f"-{name}"}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tasks_and_options_that_are_shown_exist(path):
    from fabbuild.cli.tasks import collection

    ours = collection()
    tasks = {name: ours[name] for name in [*ours.tasks, *ours.tasks.aliases]}
    for line in command_lines(path.read_text(encoding="utf-8")):
        words = shlex.split(line.replace("(", " ").replace(")", " "))[1:]
        if words[:1] == ["-H"]:
            words = words[2:]
        current = None
        for word in words:
            if word in tasks:
                current = tasks[word]
            elif word in ELSEWHERE:
                break
            elif word.startswith("-") and current is not None:
                option = word.partition("=")[0]
                assert option in options_of(current), f"{path}: `{line}`: there is no option {option}"
            elif current is None:
                assert word.startswith("-") or word in ("TASK", "..."), f"{path}: `{line}`: there is no task {word}"
