"""docs/reference/results.md: every file, event, field and exit status of the code is in it."""

import re

import pytest

from fabbuild.build import run_plan
from fabbuild.event_types import KINDS
from fabbuild.protocol.names import RESERVED
from fabbuild.protocol.settings import SETTINGS, Effect
from fabbuild.protocol.uboot import TREE
from fabbuild.worker.base import workdir
from tests.support.docs import missing, page, section

NAME = "reference/results.md"


def test_every_file_of_a_result_is_in_it():
    names = {*RESERVED, *(name for name, _ in TREE.config_files)}
    assert missing(section(NAME, "A result"), sorted(names)) == []


def test_every_setting_that_names_a_result_is_in_it():
    names = [name for name, row in SETTINGS.items() if row.effect is Effect.OUTPUT]
    assert missing(section(NAME, "When a result is built again"), names) == []


def rows():
    """Give the page's line of each event."""
    table = section(NAME, "Events").partition("|---|")[2]
    return dict(re.findall(r"(?m)^\| `([\w-]+)` \| (.*)$", table))


def test_every_event_is_in_it():
    lacking = KINDS.keys() - rows().keys()
    assert not lacking, f"docs/{NAME}: add a line to the table of events for {sorted(lacking)}"
    assert rows().keys() == KINDS.keys()


def test_every_field_of_an_events_data_is_in_it():
    fields = [(what, field) for what, kind in KINDS.items() for field in kind.__struct_fields__]
    assert len(fields) > 40
    lacking = [f"{what}: {field}" for what, field in fields if missing(rows()[what], [field])]
    assert not lacking, f"docs/{NAME}: say in the table of events what these are: {lacking}"


def test_every_exit_status_is_in_it():
    statuses = [getattr(run_plan, name) for name in dir(run_plan) if name.startswith("EXIT_")]
    assert len(statuses) >= 6
    assert [status for status in statuses if f"| {status} |" not in section(NAME, "Exit status")] == []


@pytest.mark.parametrize(
    "name",
    [
        workdir.LOCK,
        workdir.REPO,
        workdir.BIN,
        workdir.SLOTS,
        workdir.SCRATCH,
        workdir.TOOLCHAINS,
        f"{workdir.BIN}/{workdir.DIGESTS}",
    ],
)
def test_what_lies_on_a_machine_is_in_it(name):
    assert f"`{name}" in section(NAME, "On a machine")


@pytest.mark.deep
def test_a_real_run_leaves_nothing_that_the_page_does_not_name(farm):
    farm.machines(local=True)
    ended = farm.build("--only", "sandbox,sandbox_spl", "--branch", "series", "--count", "3")
    assert ended.status in (100, 101), ended
    text = page(NAME)
    found = {path.name for path in (farm.output / "series").glob("*/*/*")}
    own = {
        path.name.replace("worker-local", "worker-NAME") for path in (farm.output / "series/.fabbuild").iterdir()
    }
    assert found >= {"done", "err", "log", "sizes", "host"}
    assert missing(text, sorted(found | own)) == []
    for event in farm.journal("series"):
        assert missing(text, event) == []
        assert missing(rows()[event["what"]], event["data"]) == [], event
    (built,) = (farm.output / "series").glob("04_*/sandbox/built-from")
    fields = re.findall(r'(?m)^ "(\w+)"', built.read_text())
    assert missing(section(NAME, "When a result is built again"), fields) == []
