"""Help in the end of a run, with real machines: each commit is built once, and each machine builds a part."""

import json
from collections import Counter

import pytest

from fabbuild.events.durations import BuildTime, History

pytestmark = pytest.mark.deep


def test_a_board_is_shared_by_two_machines_and_each_commit_is_built_once(farm):
    work = {name: {"connection": "local", "work_dir": str(farm.directory / name), "threads": 1} for name in "ab"}
    farm.write_machines({"machines": work, "fit": {"max_load_per_cpu": 1000}})
    # With such times it pays at any time before the end.
    History(farm.directory / "data" / "fabbuild" / "history.sqlite3").learn(
        [BuildTime("sandbox", "sandbox", "a", True, 10.0), BuildTime("sandbox", "sandbox", "a", False, 3000.0)]
    )
    ended = farm.build("--only", "sandbox", "--branch", "series")
    assert ended.status in (0, 100, 101), ended
    (journal,) = (path.read_text() for path in farm.output.glob("*/.fabbuild/journal.ndjson"))
    events = [json.loads(line) for line in journal.splitlines()]
    results = Counter(event["commit"] for event in events if event["what"] == "result")
    assert set(results.values()) == {1}
    assert len(results) > 3
    assert not [event for event in events if event["what"] in ("dropped", "machine-failed")]
    ready = [n for n, event in enumerate(events) if event["what"] == "phase" and event["data"]["phase"] == "ready"]
    after = [event for event in events[ready[-1] :] if event["what"] == "result"]
    if len(ready) == 2 and len(after) > 3:  # the second machine was there before the first was all but through
        assert [event["machine"] for event in events if event["what"] == "trimmed"]
        assert {event["machine"] for event in after} == {"a", "b"}
