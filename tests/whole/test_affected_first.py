"""Boards whose builds read a file that the commits change are built before the others."""

import pytest


def begun(farm, name):
    """Give the boards of the last build in the order in which they were begun."""
    told = farm.journal(name)
    last = max(place for place, event in enumerate(told) if event["what"] == "run-start")
    return [event["board"] for event in told[last:] if event["what"] == "started"]


@pytest.fixture
def one_slot(farm):
    """A machine with one slot, and a store that knows what robin and wren read, and nothing of other boards."""
    farm.machines(local=True, max_boards=1)
    assert farm.build("--only", "robin,wren").status == 0
    return farm


def test_boards_that_read_what_a_range_changes_come_first(one_slot):
    """The commit changes drivers/led.c, which robin reads and wren does not."""
    commits = "series~2..series~1"
    build = ["--commits", commits, "--only", "dunlin,egret,robin,wren"]
    assert one_slot.build(*build).status == 0
    assert begun(one_slot, commits)[0] == "robin"


@pytest.mark.parametrize(("order", "first"), [("longest", "wren"), ("given", "dunlin")])
def test_boards_that_read_an_edited_file_come_first_unless_the_order_is_given(one_slot, order, first):
    with (one_slot.source / "board/bywater/wren/board.c").open("a") as file:
        file.write("\nint edited;\n")
    ended = one_slot.build("--only", "dunlin,egret,robin,wren", "--order", order)
    assert ended.status == 0, ended
    assert begun(one_slot, "current")[0] == first
