"""The queue of boards that no machine holds."""

from fabbuild.model import Board, ExpectedDuration, Job
from fabbuild.scheduler.board_queue import BoardQueue
from fabbuild.scheduler.orders import Member, Members, OpenBoard
from tests.support.rules import joined


def queue_of(first=(), seconds=None, **archs):
    """Boards with their architectures, of which some are to come first."""
    boards = [
        OpenBoard(Job(Board(name, arch), (0,)), place, {0}) for place, (name, arch) in enumerate(archs.items())
    ]
    return BoardQueue(boards, {name: ExpectedDuration(took, 1.0) for name, took in (seconds or {}).items()}, first)


def taken(queue, *archs):
    """What a machine with a slot is given, one after the other, beside others that can build only arm."""
    members = Members()
    for number, name in enumerate(("m", "n", "o")):
        members.add(Member(joined(name, archs=archs if name == "m" else ("arm",)), 1, number))
    found = []
    while (board := queue.take(members.get("m"), members)) is not None:
        found.append(board.target)
    return found


def test_those_that_are_to_come_first_do_and_the_order_among_either_stays():
    archs = dict.fromkeys("abcdef", "arm")
    assert taken(queue_of({"d", "b"}, **archs), "arm") == ["b", "d", "a", "c", "e", "f"]
    seconds = {"a": 10, "b": 20, "c": 40, "d": 30, "e": 50, "f": 60}
    assert taken(queue_of({"d", "b"}, seconds, **archs), "arm") == ["d", "b", "f", "e", "c", "a"]
    assert taken(queue_of({"unknown"}, **archs), "arm") == list("abcdef")


def test_those_that_are_to_come_first_go_before_those_that_few_machines_can_build():
    queue = queue_of({"c"}, a="arm", b="mips", c="arm", d="mips")
    assert taken(queue, "arm", "mips") == ["c", "b", "d", "a"]
    assert not queue


def test_a_board_that_is_to_come_first_and_cannot_be_built_holds_up_no_other():
    queue = queue_of({"b"}, a="arm", b="mips", c="arm")
    assert taken(queue, "arm") == ["a", "c"]
    assert queue
    assert queue.archs() == ["mips"]
    assert [board.target for board in queue.remove("mips")] == ["b"]
    assert not queue


def test_what_came_back_goes_before_what_is_to_come_first():
    queue = queue_of({"b"}, a="arm", b="arm")
    queue.put_back(OpenBoard(Job(Board("back", "arm"), (0,)), 2, {0}))
    assert taken(queue, "arm") == ["back", "b", "a"]


def test_taken_out_whole_the_boards_are_in_the_order_in_which_they_were_to_come():
    queue = queue_of({"d", "b"}, a="arm", b="arm", c="arm", d="arm")
    assert [board.target for board in queue.clear()] == ["b", "d", "a", "c"]
    assert not queue


def test_architectures_come_in_one_order_whatever_the_order_of_boards() -> None:
    archs = ["xtensa", "arm", "sandbox", "mips", "powerpc", "aarch64"]
    boards = [OpenBoard(Job(Board(f"b{place}", arch), (0,)), place, {0}) for place, arch in enumerate(archs)]
    queue = BoardQueue(boards)
    queue.put_back(OpenBoard(Job(Board("back", "m68k"), (0,)), len(boards), {0}))
    assert list(queue.archs()) == sorted([*archs, "m68k"])
