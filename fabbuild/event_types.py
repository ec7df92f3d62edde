"""The events of a run: one type for each kind, read from and written to the journal.

An `Event` has the time and place of an event, and a payload, one of `Payload`, its kind. A payload's tag is the
event's ``what`` and its fields are the event's ``data``. Fields that default to UNSET are left out of ``data`` when
they are not set; all others are always written. The published schema, docs/schemas/event-1.json, is generated from
these types (`fabbuild.events.schema`), with the docstrings and descriptions here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Union, get_args, get_type_hints

import msgspec
import msgspec.structs
from msgspec import UNSET, Meta, UnsetType

#: The version of the events' layout, which ``run-start`` names; see docs/reference/json.md.
SCHEMA = 1

# The upper bound is for reading alone, as a float can hold it; the schema has none.
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Verdict = Annotated[
    str, Meta(description="how it ended", extra_json_schema={"enum": ["built", "warned", "failed"]})
]
_Number = Annotated[_Count, Meta(description="the commit's number in the range; 0: the current source")]
_After = Annotated[
    tuple[str, ...],
    Meta(description="machines' faults in earlier attempts at this board and commit"),
]


class Failure(msgspec.Struct, frozen=True):
    """A board that failed at a commit."""

    board: Annotated[str, Meta(description="its name")]
    commit: Annotated[str, Meta(description="the commit's label; empty for the current source")]
    machine: Annotated[str, Meta(description="the machine that built it; empty for a result that existed already")]
    error: Annotated[str, Meta(description="the first error")]
    after: _After = ()


class Recovered(msgspec.Struct, frozen=True):
    """A board that was built at a commit after earlier attempts had met machines' faults."""

    board: Annotated[str, Meta(description="its name")]
    commit: Annotated[str, Meta(description="the commit's label; empty for the current source")]
    after: _After


class MachineShare(msgspec.Struct, frozen=True):
    """The contribution of one machine to a run."""

    name: Annotated[str, Meta(description="its name")]
    done: Annotated[_Count, Meta(description="results that it brought")]
    share: Annotated[float, Meta(description="its share of all results, 0 to 1")]
    bytes_sent: Annotated[_Count | None, Meta(description="bytes sent to it; null: it was not connected")] = None
    bytes_received: Annotated[
        _Count | None, Meta(description="bytes received from it; null: it was not connected")
    ] = None
    state: Annotated[str, Meta(description="its last state, as in `inv status --json`")] = "done"
    reason: Annotated[str, Meta(description="why it is not used")] = ""


class EndCounts(msgspec.Struct, frozen=True):
    """Results by how they ended."""

    built: Annotated[_Count, Meta(description="without warnings")] = 0
    warned: Annotated[_Count, Meta(description="built with warnings")] = 0
    failed: Annotated[_Count, Meta(description="failed: without an image")] = 0
    not_built: Annotated[_Count, Meta(description="ended without a result")] = 0
    skipped: Annotated[_Count, Meta(description="existed before the run")] = 0
    carried: Annotated[
        _Count | UnsetType, Meta(description="of the built, warned and failed: taken from an earlier commit")
    ] = UNSET
    reused: Annotated[_Count | UnsetType, Meta(description="of the same: taken from the store of results")] = UNSET


class _Payload(msgspec.Struct, frozen=True, tag_field="what"):
    """The base of all payloads."""


class RunStarted(_Payload, frozen=True, tag="run-start"):
    """A run begins."""

    boards: Annotated[_Count, Meta(description="number of boards")]
    commits: Annotated[_Count, Meta(description="number of commits")]
    results: Annotated[_Count, Meta(description="number of results to build")]
    skipped: Annotated[_Count, Meta(description="number of results that exist already")]
    output: Annotated[str, Meta(description="the directory of the results")]
    machines: Annotated[tuple[str, ...], Meta(description="names of the machines that the run starts with")]
    not_there: Annotated[
        _Count | UnsetType,
        Meta(description="number of boards at commits that do not have them, so that nothing is built"),
    ] = UNSET
    schema: Annotated[
        int | UnsetType,
        Meta(description="the version of the events of this run", extra_json_schema={"const": SCHEMA}),
    ] = UNSET


class PhaseEntered(_Payload, frozen=True, tag="phase"):
    """A machine enters a phase."""

    phase: Annotated[
        str,
        Meta(
            description="its name",
            examples=["probe", "init", "push", "start", "configure", "prepare", "ready", "done"],
        ),
    ]
    slots: Annotated[_Count | UnsetType, Meta(description="with ready: how many boards at once")] = UNSET
    threads: Annotated[_Count | UnsetType, Meta(description="with ready: how many threads")] = UNSET


class MachineFailed(_Payload, frozen=True, tag="machine-failed"):
    """A machine is not used, or no longer used; text has the reason."""

    again_in: Annotated[
        float | UnsetType | None, Meta(description="seconds until the machine is tried again; null: never")
    ] = UNSET
    aside: Annotated[bool | UnsetType, Meta(description="whether the wait is longer than usual")] = UNSET
    awaited: Annotated[
        bool | UnsetType, Meta(description="whether boards that no other machine can build wait for it")
    ] = UNSET


class StderrLine(_Payload, frozen=True, tag="machine-stderr"):
    """A machine's worker wrote a line to stderr; text is the line."""


class WorktreeMade(_Payload, frozen=True, tag="worktree"):
    """The worktree of a machine's slot is ready."""

    done: Annotated[_Count, Meta(description="worktrees that are ready")]
    slots: Annotated[_Count, Meta(description="worktrees that are being made, the ready ones included")]


class BoardAssigned(_Payload, frozen=True, tag="assigned"):
    """A board was given to a machine."""

    commits: Annotated[_Count, Meta(description="number of commits")]
    backup: Annotated[
        bool | UnsetType, Meta(description="whether another machine builds the same board and commits")
    ] = UNSET


class BoardStarted(_Payload, frozen=True, tag="started"):
    """A slot began a board."""


class ResultReceived(_Payload, frozen=True, tag="result"):
    """The result of one board at one commit was received."""

    verdict: _Verdict
    return_code: Annotated[int, Meta(description="the return code of the build")]
    number: _Number
    seconds: Annotated[
        float | None, Meta(description="seconds that the build took, as the worker reports; null: not reported")
    ]
    error: Annotated[str, Meta(description="the first error or warning; empty if there is none")]
    load_avg: Annotated[float, Meta(description="the machine's load")]
    after: _After
    phases: Annotated[
        Mapping[str, Annotated[float, Meta(gt=0)]],
        Meta(description="the seconds by phase: checkout, configure, build, collect"),
    ]
    carried: Annotated[
        str | UnsetType | None,
        Meta(description="the commit whose result was carried forward, if nothing was built"),
    ] = UNSET
    could_carry: Annotated[
        str | UnsetType | None, Meta(description="the commit whose result could have been carried forward")
    ] = UNSET
    differs: Annotated[
        tuple[str, ...] | UnsetType,
        Meta(description="what differed when it was built upon what was there, if that was compared"),
    ] = UNSET
    from_scratch: Annotated[
        bool | UnsetType, Meta(description="whether its build began in an empty output directory, if that is known")
    ] = UNSET


class ResultReused(_Payload, frozen=True, tag="reused"):
    """The result of one board at one commit was taken from the store; machine is the one that built it."""

    verdict: _Verdict
    return_code: Annotated[int | UnsetType, Meta(description="the return code of the build")] = UNSET
    number: Annotated[_Count | UnsetType, Meta(description="the commit's number in the range")] = UNSET
    error: Annotated[str | UnsetType, Meta(description="the first error or warning")] = UNSET
    commit: Annotated[str | UnsetType, Meta(description="the commit it was built for")] = UNSET
    when: Annotated[float | UnsetType, Meta(description="when it was built, in seconds since the epoch")] = UNSET
    machine: Annotated[str | UnsetType, Meta(description="the machine that built it")] = UNSET
    output: Annotated[str | UnsetType, Meta(description="the output directory that it was first written to")] = (
        UNSET
    )
    seconds: Annotated[float | UnsetType | None, Meta(description="seconds that the build took")] = UNSET
    after: _After | UnsetType = UNSET


class ReuseAudited(_Payload, frozen=True, tag="audit"):
    """A result that was reused or built upon another one was compared with a new build; text has the outcome."""

    differs: Annotated[tuple[str, ...] | UnsetType, Meta(description="what differs: files, or sha256")] = UNSET
    origin: Annotated[str | UnsetType, Meta(description="the origin of the other result, in words")] = UNSET
    built: Annotated[str | UnsetType, Meta(description="the path of the built result")] = UNSET
    reused: Annotated[str | UnsetType, Meta(description="the path of the other result, if it is kept")] = UNSET
    number: Annotated[_Count | UnsetType, Meta(description="the commit's number")] = UNSET


class BoardFinished(_Payload, frozen=True, tag="board-done"):
    """All results of a board were received; the slot is free."""


class PartFinished(_Payload, frozen=True, tag="part-done"):
    """A machine has built its part of a board, other machines build the rest; the slot is free."""


class CommitsTrimmed(_Payload, frozen=True, tag="trimmed"):
    """A machine skips commits of a board that another machine builds or has built."""

    commits: Annotated[_Count, Meta(description="how many")]


class FaultFound(_Payload, frozen=True, tag="fault"):
    """An attempt at a board failed through a machine's fault and is not a result; text has the fault."""

    kind: Annotated[str, Meta(description="the kind of fault")]
    number: _Number


class MachineChecked(_Payload, frozen=True, tag="check"):
    """A machine has checked itself; text has its findings."""

    well: Annotated[bool, Meta(description="whether the machine is to be used")]


class SlotsReduced(_Payload, frozen=True, tag="slots"):
    """A machine builds fewer boards at once from now on; text has the reason."""

    slots: Annotated[_Count, Meta(description="how many")]


class RunWaiting(_Payload, frozen=True, tag="waiting"):
    """No machine is in use, and the run waits for one to come back."""

    until: Annotated[float, Meta(description="until when, in seconds since the epoch")]
    machines: Annotated[tuple[str, ...], Meta(description="machines that may come back")]


class BoardRequeued(_Payload, frozen=True, tag="requeued"):
    """A board goes back to the pool; text has the reason."""


class ResultGivenUp(_Payload, frozen=True, tag="not-built"):
    """One board at one commit ends without a result; text is the reason."""

    number: _Number


class MessageDropped(_Payload, frozen=True, tag="dropped"):
    """A worker's message was ignored: a duplicate, or not asked for; text has the reason."""


class Note(_Payload, frozen=True, tag="note"):
    """Any other note for the user."""

    differs: Annotated[
        str | UnsetType, Meta(description="an architecture or a tool that differs between machines")
    ] = UNSET
    versions: Annotated[
        Mapping[str, Annotated[Sequence[str], Meta(description="machines")]] | UnsetType,
        Meta(description="machines by version"),
    ] = UNSET


class RunInterrupted(_Payload, frozen=True, tag="interrupted"):
    """The user or a signal stopped the run."""


class RunStoppedEarly(_Payload, frozen=True, tag="stopped"):
    """The run ends before its time, because as many boards failed as ``--stop-at`` says."""

    failed: Annotated[int, Meta(description="how many boards failed")]


class RunEnded(_Payload, frozen=True, tag="run-end"):
    """The run ends."""

    counts: EndCounts
    seconds: Annotated[float, Meta(description="seconds that the run took")]
    exit_status: Annotated[int, Meta(description="the exit status of the command")]
    output: Annotated[str, Meta(description="the directory of the results")]
    failing: Annotated[
        tuple[Failure, ...], Meta(description="all failures, also those that existed before the run")
    ]
    recovered: Annotated[
        tuple[Recovered, ...], Meta(description="boards that were built only after machines' faults")
    ]
    machines: Annotated[Mapping[str, MachineShare], Meta(description="the machines by name")]


@dataclass(frozen=True)
class UnknownEvent:
    """An event of an unknown kind, as a later version may write it."""

    what: str
    data: Mapping[str, object] = field(default_factory=dict)


Payload = Union[  # noqa: UP007 - get_args gives its members
    RunStarted, PhaseEntered, MachineFailed, StderrLine, WorktreeMade, BoardAssigned, BoardStarted, ResultReceived,
    ResultReused, ReuseAudited, BoardFinished, PartFinished, CommitsTrimmed, FaultFound, MachineChecked,
    SlotsReduced, RunWaiting, BoardRequeued, ResultGivenUp, MessageDropped, Note, RunInterrupted,
    RunStoppedEarly, RunEnded, UnknownEvent,
]  # fmt: skip

#: The types of payloads by ``what``.
KINDS: Mapping[str, type[_Payload]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(Payload) if issubclass(kind, _Payload)
}

# The errors that msgspec raises for a value of another type, and for a key that is not valid text.
_UNREADABLE = (msgspec.ValidationError, UnicodeEncodeError)

# Substitutes for a value that a journal lacks or that is of another type; the first that the field can take.
_ABSENT: tuple[object, ...] = (None, "", 0, False, (), {})


@dataclass(frozen=True)
class Event:
    """An event of a run: one line of the journal, and the input of the displays.

    Attributes:
        time: the time, in seconds since the epoch.
        payload: the kind of event, and its data.
        machine: the machine; empty if the event belongs to none.
        slot: the slot of the machine; None if the event belongs to none.
        board: the board; empty if the event belongs to none.
        commit: the hash of the commit; empty for none, or for the current source.
        attempt: how often the board was assigned, this time included; 0: does not apply.
        text: one line for a person.
    """

    time: float
    payload: Payload
    machine: str = ""
    slot: int | None = None
    board: str = ""
    commit: str = ""
    attempt: int = 0
    text: str = ""

    @property
    def what(self) -> str:
        """The kind of the event, as the journal names it: ``run-start``, ``result``, …"""
        payload = self.payload
        return payload.what if isinstance(payload, UnknownEvent) else str(payload.__struct_config__.tag)

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """The payload as plain values, as the journal has it."""
        if isinstance(self.payload, UnknownEvent):
            return self.payload.data
        data: dict[str, Any] = _with_lists(msgspec.to_builtins(self.payload))
        del data["what"]
        return data


def _with_lists(value: Any) -> Any:
    """Return a plain value with lists for tuples, as JSON has it."""
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_payload(what: str, data: Mapping[str, object]) -> Payload:
    """Return the payload of an event with this ``what`` and ``data``.

    A journal may be of another version, or damaged: an unknown kind is an `UnknownEvent`, and a value that is
    missing or of another type is as if it were empty.
    """
    kind: Any = KINDS.get(what)
    if kind is None:
        return UnknownEvent(what, data)
    try:
        return msgspec.convert(data, kind)  # type: ignore[no-any-return]
    except _UNREADABLE:
        return kind(**_each_field(kind, data))  # type: ignore[no-any-return]


def _each_field(kind: type[msgspec.Struct], data: Mapping[str, object]) -> dict[str, Any]:
    """Read each field by itself, because together they cannot be read."""
    read = {}
    types = get_type_hints(kind, include_extras=True)
    for one in msgspec.structs.fields(kind):
        told = (data[one.name],) if one.name in data else ()
        for value in (*told, *(_ABSENT if one.required else ())):
            try:
                read[one.name] = msgspec.convert(value, types[one.name])
                break
            except _UNREADABLE:
                continue
    return read
