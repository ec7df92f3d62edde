"""The queue of boards that no machine holds."""

from fabbuild.model import Board, Job
from fabbuild.scheduler.board_queue import BoardQueue
from fabbuild.scheduler.orders import OpenBoard


def test_architectures_come_in_one_order_whatever_the_order_of_boards() -> None:
    archs = ["xtensa", "arm", "sandbox", "mips", "powerpc", "aarch64"]
    boards = [OpenBoard(Job(Board(f"b{place}", arch), (0,)), place, {0}) for place, arch in enumerate(archs)]
    queue = BoardQueue(boards)
    queue.put_back(OpenBoard(Job(Board("back", "m68k"), (0,)), len(boards), {0}))
    assert list(queue.archs()) == sorted([*archs, "m68k"])
