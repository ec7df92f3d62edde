"""The pages as a whole: they build, they lead to each other, and each begins with what it is for."""

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.support.census import HANG_LIMIT
from tests.support.docs import DOCS, PAGES, page, stale
from tests.support.farm import ROOT

REGENERATE = "run `inv docs --regenerate` and commit what it wrote"


@pytest.mark.deep
@pytest.mark.skipif(
    importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_parser") is None,
    reason="Sphinx is not installed: pip install -e '.[docs]'",
)
def test_the_pages_build_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", tmp_path / "d"]
    built = subprocess.run(
        [*command, DOCS, tmp_path / "html"], capture_output=True, text=True, check=False, timeout=HANG_LIMIT
    )
    assert built.returncode == 0, built.stderr
    assert all((tmp_path / "html" / path.relative_to(DOCS)).with_suffix(".html").exists() for path in PAGES)


def test_the_pages_that_are_generated_are_current():
    assert stale() == [], REGENERATE


def test_every_task_has_an_example():
    named = set(re.findall(r"(?m)^### `([\w-]+)`", page("reference/tasks.md")))
    written = {path.stem for path in (DOCS / "tasks").glob("*.md")}
    assert named == written, f"write docs/tasks/NAME.md with an example of the task NAME; then {REGENERATE}"


def test_the_first_page_leads_to_every_other():
    named = set(re.findall(r"\]\(([\w/.-]+)\)", page("index.md")))
    pages = {str(path.relative_to(DOCS)) for path in PAGES if path.name != "index.md"}
    assert pages - named == set(), "name it in docs/index.md, by the question it answers"


def test_the_glossary_is_sorted_and_says_each_word_once():
    words = [word.lower() for word in re.findall(r"(?m)^\| ([\w -]+) \|", page("glossary.md"))][1:]
    assert len(words) > 20
    assert words == sorted(set(words))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_a_page_begins_with_a_title_and_what_it_is_for(path):
    title, empty, first = path.read_text(encoding="utf-8").split("\n")[:3]
    assert title.startswith("# ")
    assert empty == ""
    assert re.match(r"[A-Z`]", first), f"{path}: begin with a sentence that says what the page is for"


def test_nothing_in_the_pages_is_of_the_machine_they_were_written_on():
    for path in [*PAGES, *(DOCS / "tasks").glob("*.md"), ROOT / "README.md"]:
        for word in re.findall(r"/tmp/\S*|/work/\S*|/root/\S*", path.read_text(encoding="utf-8")):
            pytest.fail(f"{path} names {word}")


def test_every_link_has_words_so_that_it_can_be_seen_where_nobody_fills_them_in():
    for path in [*PAGES, *(DOCS / "tasks").glob("*.md"), ROOT / "README.md"]:
        assert not re.findall(r"\[\]\([^)]*\)", path.read_text(encoding="utf-8")), f"{path}: name what is linked to"


def test_an_option_that_follows_a_key_is_shown_with_it(farm):
    """`summary` takes what to tell of from the configuration; `boards --json` does not."""
    text = page("reference/tasks.md")
    rows = dict(re.findall(r"(?ms)^### `(\w+)`(.*?)(?=^##)", text))
    assert "| `output` |" in rows["summary"]
    assert "`json` |" not in rows["boards"].replace("`--json` |", "")
    (farm.directory / "invoke.yaml").write_text(
        f"fabbuild: {{source: '{farm.source}', json: true, output: nowhere}}"
    )
    told = farm.run("summary")
    assert "nowhere" in told.err + told.out, told
    listed = farm.run("boards", "--only", "sandbox")
    assert listed.out.startswith("sandbox "), listed
