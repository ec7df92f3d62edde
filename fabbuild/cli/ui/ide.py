"""What an editor reads: the words of make and the compilers as they are, and nothing around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fabbuild.cli.ui.display import Display
from fabbuild.cli.ui.output import Output
from fabbuild.cli.ui.plain import Together
from fabbuild.event_types import Event
from fabbuild.events.event_lines import tell
from fabbuild.text import visible

# What an editor cannot make anything of, but whoever sits in front of it has to know.
_TOLD = frozenset({"machine-failed", "interrupted"})


class IdeDisplay(Display):
    """Writes the stderr of each result to standard error as it comes in; at the end that of what was there.

    Paths in it are relative to the top of the source. Standard output stays empty; what has no result, and why, is
    told on a line that begins with ``fabbuild:``, one for all boards of a reason.
    """

    def __init__(
        self, out: Output, err: Output, results: Iterable[tuple[str, str]], words: Callable[[str, str], str]
    ) -> None:
        """Show on ``err``.

        Args:
            out: where nothing is shown.
            err: where all is.
            results: board and commit of each result that was asked for.
            words: gives the stderr of one.
        """
        super().__init__(out, err)
        self._left = dict.fromkeys(results)
        self._words = words
        self._together = Together(lambda line, _when: self._err.line(f"fabbuild: {line}"))

    def _event(self, event: Event) -> None:
        super()._event(event)
        if event.what == "not-built":
            self._left.pop((event.board, event.commit), None)
            self._together.add(event)
            return
        self._together.flush()
        if event.what == "result":
            self._show(event.board, event.commit)
        elif event.what in _TOLD:
            self._err.line(f"fabbuild: {tell(event)}")
        if event.what == "interrupted":
            self._left.clear()  # what there is may be of another source

    def _tick(self, now: float) -> None:
        self._together.tick(now)

    def _finish(self) -> None:
        self._together.flush()
        for board, commit in list(self._left):
            self._show(board, commit)

    def _show(self, board: str, commit: str) -> None:
        self._left.pop((board, commit), None)
        text = self._words(board, commit)
        if text.strip():
            self._err.line(visible(text.rstrip("\n"), newlines=True))
