"""Write the results of workers into the result tree, and make the events that report them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import UNSET

from fabbuild.event_types import ResultReceived
from fabbuild.events.timeline import phases_of
from fabbuild.machines.messages import BuildResult
from fabbuild.machines.session import Session
from fabbuild.model import FLAKY, Board, Commit, Result, Verdict
from fabbuild.protocol.build_output import PathShortener, without_clock_skew
from fabbuild.protocol.wire import FILES_MANY
from fabbuild.results.incoming import Arrived, Incoming, names_for
from fabbuild.results.reuse.manager import Reuse
from fabbuild.results.tree import BuiltFrom, ResultTree, decisive, kept_by, made_by
from fabbuild.text import first_error

#: The peer's worker leaves paths as make prints them, ours makes them relative to the tree; the same warning must
#: read the same wherever it comes from.
_FROM_BUILD_DIR = PathShortener()


class Recorder:
    """Writes the results of one run."""

    def __init__(
        self,
        tree: ResultTree,
        boards: Mapping[tuple[str, int], Board],
        commits: Sequence[Commit],
        settings: Mapping[str, object],
        reuse: Reuse | None = None,
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            tree: where results go; locked by the caller.
            boards: the boards that are built, by name and index of the commit.
            commits: the commits that were sent, in order.
            settings: the wire's settings, which name a result together with its tree and toolchain.
            reuse: is given each result, for other runs.
        """
        #: Keeps the files of a result until it comes.
        self.incoming = Incoming(tree.own, names_for(settings))
        self._reuse = reuse
        self._tree = tree
        self._boards = boards
        self._commits = commits
        self._settings = decisive(settings)
        self._kept = kept_by(settings)

    def record(
        self,
        session: Session,
        message: BuildResult,
        attempt: int,
        after: tuple[str, ...],
        files: Arrived,
    ) -> tuple[Verdict, ResultReceived]:
        """Write one result; return its verdict, and the event that reports it.

        Args:
            session: the session of the machine that sent it.
            message: the result; its board and commit have been checked against what was asked for.
            attempt: the order of the board that it answers.
            after: the faults of machines that this board met at this commit before.
            files: the files that came with it.

        Raises:
            OutputError: the result could not be written.
        """
        if flaky := message.raw_details.flaky:
            after = (*after, f"{FLAKY}{session.name}: {first_error(flaky)}")
        # That a machine's clock is wrong is no warning of the board's.
        stderr = without_clock_skew(message.stderr)
        if session.ready is None or not session.ready.protocol:
            stderr = _FROM_BUILD_DIR(stderr)
        result = Result(
            board=message.board,
            upto=message.commit_upto,
            return_code=message.return_code,
            stdout=message.stdout,
            stderr=stderr,
            sizes=message.sizes.raw,
            config=message.config,
            machine=session.name,
            attempt=attempt,
            load_avg=message.load_avg,
            details=message.details,
            after=after,
        )
        board = self._boards[message.board, message.commit_upto]
        commit = self._commits[message.commit_upto]
        tool = session.facts.toolchains.get(board.arch) if session.facts else None
        described = {"arch": board.arch}
        if tool:
            described |= {"gcc": tool.gcc, "prefix": tool.prefix, "version": tool.version}
        maker = made_by(tool.version if tool else "", session.machine.env)
        kept = self._kept if files.complete else ()
        built_from = BuiltFrom(commit.tree, board.arch, maker, self._settings, kept)
        carried = self._carried(session, message.carried)
        origin = {"carried": {"commit": carried}} if carried else {}
        self._tree.record(result, built_from, toolchain=described, files=files.there, origin=origin)
        if self._reuse is not None:
            self._reuse.keep(session, board, message, result, built_from, files)
        return result.verdict, ResultReceived(
            carried=carried,
            could_carry=self._carried(session, message.could_carry),
            from_scratch=UNSET if message.raw_details.from_scratch is None else message.raw_details.from_scratch,
            differs=UNSET if message.differs is None else message.differs[:FILES_MANY],
            verdict=result.verdict.value,
            return_code=result.return_code,
            number=commit.number,
            seconds=_seconds(message.details.get("seconds")),
            error=first_error(stderr) if result.verdict is not Verdict.BUILT else "",
            load_avg=message.load_avg,
            after=after,
            phases=phases_of(message.details.get("phases")),
        )

    def _carried(self, session: Session, upto: int | None) -> str:
        """Return the hash of the commit that a worker carried a result forward from; empty if it built the result.

        Raises:
            ValueError: there is no such commit, or the worker was not asked to carry results forward.
        """
        if upto is None:
            return ""
        if "carry" not in session.features or not 0 <= upto < len(self._commits):
            raise ValueError(f"a result carried forward from {upto}")
        return self._commits[upto].hash


def _seconds(value: object) -> float | None:
    """Return a worker's value as a duration in seconds; None if it is not one."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 else None
