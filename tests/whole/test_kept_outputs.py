"""A second run's boards go to the machines that have their output directories, with real machines."""

import shutil

import pytest

pytestmark = pytest.mark.deep


def built(farm, *arguments):
    """Build; give the machine of each board, and whether it began with nothing."""
    shutil.rmtree(farm.output, ignore_errors=True)
    assert farm.build(*arguments).status in (0, 100, 101, 102), "one board has no architecture"
    results = [event for event in farm.journal("current") if event["what"] == "result"]
    return {event["board"]: (event["machine"], event["data"].get("from_scratch")) for event in results}


def test_a_second_run_builds_each_board_where_its_directory_is(farm):
    work = {name: {"connection": "local", "work_dir": str(farm.directory / name), "threads": 1} for name in "ab"}
    farm.write_machines({"machines": work, "fit": {"max_load_per_cpu": 1000}})
    first = built(farm)
    assert {machine for machine, _ in first.values()} == {"a", "b"}
    assert all(from_scratch for _, from_scratch in first.values())
    again = built(farm, "--no-reuse")
    assert again == {board: (machine, False) for board, (machine, _) in first.items()}
