"""Print the messages of make and the compilers as they are, for editors to parse."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fabbuild.cli.ui.display import Display
from fabbuild.cli.ui.output import Output
from fabbuild.cli.ui.plain import EventGrouper
from fabbuild.event_types import (
    Event,
    MachineFailed,
    ResultGivenUp,
    ResultReceived,
    RunInterrupted,
    RunStoppedEarly,
)
from fabbuild.events.event_lines import describe
from fabbuild.text import visible

# Events that no editor understands, but that its user has to see.
_TOLD = (MachineFailed, RunInterrupted, RunStoppedEarly)


class IdeDisplay(Display):
    """A display that writes the stderr of each new result to standard error, and at the end that of the others.

    Paths in it are relative to the top of the source. Standard output stays empty. Results that could not be built
    are reported on lines that begin with ``fabbuild:``, one for all boards with the same reason.
    """

    def __init__(
        self, out: Output, err: Output, results: Iterable[tuple[str, str]], words: Callable[[str, str], str]
    ) -> None:
        """Show on ``err``.

        Args:
            out: standard output, which stays empty.
            err: standard error.
            results: board and commit of each result that was asked for.
            words: returns the stderr of a result.
        """
        super().__init__(out, err)
        self._left = dict.fromkeys(results)
        self._words = words
        self._groups = EventGrouper(lambda line, _when: self._err.line(f"fabbuild: {line}"))

    def _event(self, event: Event) -> None:
        super()._event(event)
        if isinstance(event.payload, ResultGivenUp):
            self._left.pop((event.board, event.commit), None)
            self._groups.add(event)
            return
        self._groups.flush()
        if isinstance(event.payload, ResultReceived):
            self._show(event.board, event.commit)
        elif isinstance(event.payload, _TOLD):
            self._err.line(f"fabbuild: {describe(event)}")
        if isinstance(event.payload, (RunInterrupted, RunStoppedEarly)):
            self._left.clear()  # the results that exist may be of another source

    def _tick(self, now: float) -> None:
        self._groups.tick(now)

    def _finish(self) -> None:
        self._groups.flush()
        for board, commit in list(self._left):
            self._show(board, commit)

    def _show(self, board: str, commit: str) -> None:
        self._left.pop((board, commit), None)
        text = self._words(board, commit)
        if text.strip():
            self._err.line(visible(text.rstrip("\n"), newlines=True))
