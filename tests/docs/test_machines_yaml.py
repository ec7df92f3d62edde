"""docs/reference/machines-yaml.md: every key of the parser is in it, its examples load, its mistakes are told so."""

import os
import re

import pytest

from fabbuild.config.machines_file import load_machines
from fabbuild.config.settings import NOT_IN_FILE, OPTIONS
from fabbuild.errors import ConfigError
from tests.support.docs import missing, page, section

NAME = "reference/machines-yaml.md"
GOOD = re.findall(r"```yaml\n(.*?)```", page(NAME), re.DOTALL)
BAD = re.findall(r"```yaml bad\n(.*?)```\n\n```text\n(.*?)```", page(NAME), re.DOTALL)

#: Where the parser knows keys: a file with one it does not know there, and the part of the page that has them.
PLACES = {
    "At the top": "machines: {a: {host: a}}\n%s: 1\n",
    "A machine": "machines: {a: {host: a, %s: 1}}\n",
    "Where toolchains are looked for": "machines: {a: {host: a}}\ntoolchains: {%s: 1}\n",
    "What a machine must have": "machines: {a: {host: a}}\nfit: {%s: 1}\n",
}


def told(text, tmp_path):
    """Load a file that has a mistake; give what is said of it."""
    place = tmp_path / "machines.yaml"
    place.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_machines(place)
    return str(caught.value).replace(f"{tmp_path}{os.sep}", "")


@pytest.mark.parametrize("part", PLACES)
def test_every_key_that_the_parser_knows_has_its_place(part, tmp_path):
    words = told(PLACES[part] % "no_such_key_at_all", tmp_path)
    known = words.partition("known here are ")[2].split(", ")
    assert len(known) >= 2, words
    headings = "\n".join(re.findall(r"(?m)^### .*$", section(NAME, part)))
    lacking = missing(headings, known)
    assert not lacking, f"docs/{NAME}: describe {lacking} under {part!r}: kind, default, an example, a mistake"


def test_every_option_that_the_file_may_give_is_in_the_page_of_options():
    keys = section("reference/tasks.md", "Configuration keys")
    assert missing(keys, [f"build.{name}" for name in OPTIONS if name not in NOT_IN_FILE]) == []


@pytest.mark.parametrize("text", GOOD)
def test_an_example_loads(text, tmp_path):
    place = tmp_path / "machines.yaml"
    place.write_text(text)
    assert load_machines(place).machines


def test_each_key_has_an_example_and_a_mistake():
    parts = re.split(r"(?m)^### ", page(NAME))[1:]
    assert [part.split("\n")[0] for part in parts if "```yaml\n" not in part or "```yaml bad\n" not in part] == []


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_mistake_is_told_as_the_page_says(text, words, tmp_path):
    # Which keys are known there is for the page as a whole to say.
    said = re.sub("known here are .*", "known here are …", told(text, tmp_path))
    assert said == words.strip(), f"docs/{NAME} shows other words than the program"
