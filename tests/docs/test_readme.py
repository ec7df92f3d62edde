"""What the README says of tasks, exit statuses and other files, held to the code."""

import re

from tests.support.farm import ROOT

README = (ROOT / "README.md").read_text()


def test_the_readme_names_every_task_and_exit_status():
    from fabbuild import ns
    from fabbuild.build import run

    for task in ns.task_names:
        assert f"`inv {task}" in README, task
    for status in (getattr(run, name) for name in dir(run) if name.startswith("EXIT_")):
        assert f"| {status} |" in README, status


def test_every_file_the_readme_leads_to_is_there():
    named = re.findall(r"\]\(((?!http)[^)#]+)", README)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_is_named_in_the_readme():
    from tests.support.docs import DOCS, PAGES

    pages = [f"docs/{path.relative_to(DOCS)}" for path in PAGES if path.name != "index.md"]
    assert [name for name in pages if f"({name})" not in README] == [], "name it in README.md, under Documentation"
