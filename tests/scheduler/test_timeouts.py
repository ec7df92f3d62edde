"""How long a board may take, learned from what builds took."""

from fabbuild.model import Board
from fabbuild.scheduler.events_actions import Policy
from fabbuild.scheduler.timeouts import Timeouts

RPI, BEAGLE, HIFIVE = Board("rpi", "arm"), Board("beagle", "arm"), Board("hifive", "riscv64")


def test_a_fixed_timeout_is_that_whatever_builds_took():
    deadlines = Timeouts(Policy(timeout=7.5))
    deadlines.took(RPI, 1000.0)
    assert deadlines.timeout(RPI) == 7.5


def test_while_nothing_is_known_it_is_the_floor():
    assert Timeouts(Policy(floor=900)).timeout(RPI) == 900


def test_a_board_may_take_a_multiple_of_its_longest():
    deadlines = Timeouts(Policy(floor=900, factor=10))
    for seconds in (100.0, 120.0, 5.0):
        deadlines.took(RPI, seconds)
    assert deadlines.timeout(RPI) == 1200


def test_it_is_never_below_the_floor():
    deadlines = Timeouts(Policy(floor=900, factor=10))
    deadlines.took(RPI, 2.0)
    assert deadlines.timeout(RPI) == 900


def test_an_unknown_board_goes_by_the_longest_of_its_architecture():
    deadlines = Timeouts(Policy(floor=900, factor=10))
    deadlines.took(RPI, 200.0)
    assert deadlines.timeout(BEAGLE) == 2000
    assert deadlines.timeout(HIFIVE) == 900


def test_a_known_board_goes_by_itself_and_not_by_its_architecture():
    deadlines = Timeouts(Policy(floor=900, factor=10))
    deadlines.took(RPI, 200.0)
    deadlines.took(BEAGLE, 95.0)
    assert deadlines.timeout(BEAGLE) == 950
