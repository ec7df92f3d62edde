"""What the README says of tasks, exit statuses and other files, held to the code."""

import re

from tests.support.docs import DOCS, PAGES
from tests.support.farm import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150, "what is not for the first five minutes belongs into docs/"


def test_the_readme_names_every_task():
    from fabbuild import ns

    assert [task for task in ns.task_names if f"`inv {task}`" not in README] == []


def test_the_readme_has_every_exit_status():
    from fabbuild.build import run_plan

    statuses = {getattr(run_plan, name) for name in dir(run_plan) if name.startswith("EXIT_")}
    assert len(statuses) >= 6
    assert {int(status) for status in re.findall(r"(?m)^\| (\d+) \|", README)} == statuses


def test_every_file_the_readme_leads_to_is_there():
    named = re.findall(r"\]\(((?!http)[^)#]+)", README)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_is_named_in_the_readme():
    pages = [f"docs/{path.relative_to(DOCS)}" for path in PAGES if path.name != "index.md"]
    assert [name for name in pages if f"({name})" not in README] == [], "name it in README.md, under Documentation"


def test_what_continuous_integration_runs_are_the_commands_of_the_readme():
    """A command that nobody runs goes wrong unseen."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"(?m)^(python3 -m venv .*)$", README)
    assert len(commands) == 2
    assert commands[1] in script
    assert ".venv/bin/pip install -q -c constraints.txt -e '.[docs]' && .venv/bin/inv docs" in README
    assert ".venv/bin/pip install -q -c constraints.txt -e '.[docs]' && .venv/bin/inv docs" in script
