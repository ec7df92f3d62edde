"""The events of a run: one type for each kind, read from and written to the journal.

An `Event` says when and where something happened; its payload, one of `Payload`, says what. A payload's tag is the
event's ``what`` and its fields are the event's ``data``. Fields that default to UNSET are left out of ``data`` when
they are not set; all others are always written. The published schema is made from these types
(`fabbuild.events.schema`), so a docstring or a description here is what docs/schemas/event-1.json says.
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
    commit: Annotated[str, Meta(description="what the commit is called; empty for the current source")]
    machine: Annotated[str, Meta(description="the machine that built it; empty where the result was there already")]
    error: Annotated[str, Meta(description="the first error")]
    after: _After = ()


class Recovered(msgspec.Struct, frozen=True):
    """A board that was built at a commit only after machines' faults had spoiled earlier attempts."""

    board: Annotated[str, Meta(description="its name")]
    commit: Annotated[str, Meta(description="what the commit is called; empty for the current source")]
    after: _After


class MachineShare(msgspec.Struct, frozen=True):
    """What one machine contributed to a run."""

    name: Annotated[str, Meta(description="its name")]
    done: Annotated[_Count, Meta(description="results from it")]
    share: Annotated[float, Meta(description="its part of all results, 0 to 1")]
    bytes_sent: Annotated[_Count | None, Meta(description="sent to it; null: nothing travelled")] = None
    bytes_received: Annotated[_Count | None, Meta(description="received from it; null: nothing travelled")] = None
    state: Annotated[str, Meta(description="its last state, as in `inv status --json`")] = "done"
    reason: Annotated[str, Meta(description="why it is out or away")] = ""


class EndCounts(msgspec.Struct, frozen=True):
    """Results by how they ended."""

    built: Annotated[_Count, Meta(description="without warnings")] = 0
    warned: Annotated[_Count, Meta(description="with an image and warnings")] = 0
    failed: Annotated[_Count, Meta(description="without an image")] = 0
    not_built: Annotated[_Count, Meta(description="ended without a result")] = 0
    skipped: Annotated[_Count, Meta(description="were there already")] = 0
    carried: Annotated[
        _Count | UnsetType, Meta(description="of the built, warned and failed: taken from an earlier commit")
    ] = UNSET
    reused: Annotated[_Count | UnsetType, Meta(description="of these: taken from the store of results")] = UNSET


class _Payload(msgspec.Struct, frozen=True, tag_field="what"):
    """What happened."""


class RunStarted(_Payload, frozen=True, tag="run-start"):
    """A run begins."""

    boards: Annotated[_Count, Meta(description="how many boards")]
    commits: Annotated[_Count, Meta(description="how many commits")]
    results: Annotated[_Count, Meta(description="how many results are to be built")]
    skipped: Annotated[_Count, Meta(description="how many are there already")]
    output: Annotated[str, Meta(description="the directory of the results")]
    machines: Annotated[tuple[str, ...], Meta(description="names of the machines that the run begins with")]
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
    """A machine is not used, or no longer; text says why."""

    again_in: Annotated[
        float | UnsetType | None, Meta(description="seconds until it is tried again; null: never")
    ] = UNSET
    aside: Annotated[bool | UnsetType, Meta(description="whether it is left alone for longer than usual")] = UNSET
    awaited: Annotated[
        bool | UnsetType, Meta(description="whether boards that nobody else can build wait for it")
    ] = UNSET


class StderrLine(_Payload, frozen=True, tag="machine-stderr"):
    """A machine's worker wrote a line to stderr; text is the line."""


class WorktreeMade(_Payload, frozen=True, tag="worktree"):
    """The worktree of a machine's slot is there."""

    done: Annotated[_Count, Meta(description="how many are there")]
    slots: Annotated[_Count, Meta(description="of how many")]


class BoardAssigned(_Payload, frozen=True, tag="assigned"):
    """A board was given to a machine."""

    commits: Annotated[_Count, Meta(description="at how many commits")]
    backup: Annotated[bool | UnsetType, Meta(description="whether another machine builds the same")] = UNSET


class BoardStarted(_Payload, frozen=True, tag="started"):
    """A slot began a board."""


class ResultReceived(_Payload, frozen=True, tag="result"):
    """One board at one commit is in."""

    verdict: _Verdict
    return_code: Annotated[int, Meta(description="of the build")]
    number: _Number
    seconds: Annotated[float | None, Meta(description="how long it took, as the worker says; null: it does not")]
    error: Annotated[str, Meta(description="the first error or warning; empty where there is none")]
    load_avg: Annotated[float, Meta(description="the machine's load")]
    after: _After
    phases: Annotated[
        Mapping[str, Annotated[float, Meta(gt=0)]],
        Meta(description="the seconds by what they went into: checkout, configure, build, collect"),
    ]
    carried: Annotated[
        str | UnsetType | None, Meta(description="the commit whose result it is, where nothing was built")
    ] = UNSET
    could_carry: Annotated[
        str | UnsetType | None, Meta(description="the commit whose result it might have been")
    ] = UNSET


class ResultReused(_Payload, frozen=True, tag="reused"):
    """One board at one commit is in, from the store of results; machine is the one that built it."""

    verdict: _Verdict
    return_code: Annotated[int | UnsetType, Meta(description="of the build")] = UNSET
    number: Annotated[_Count | UnsetType, Meta(description="the commit's number in the range")] = UNSET
    error: Annotated[str | UnsetType, Meta(description="the first error or warning")] = UNSET
    commit: Annotated[str | UnsetType, Meta(description="the commit it was built for")] = UNSET
    when: Annotated[float | UnsetType, Meta(description="when it was built, in seconds since the epoch")] = UNSET
    machine: Annotated[str | UnsetType, Meta(description="the machine that built it")] = UNSET
    output: Annotated[str | UnsetType, Meta(description="where it lay")] = UNSET
    seconds: Annotated[float | UnsetType | None, Meta(description="how long the build took")] = UNSET
    after: _After | UnsetType = UNSET


class ReuseAudited(_Payload, frozen=True, tag="audit"):
    """A result that would have been reused was built and compared; text says what came of it."""

    differs: Annotated[tuple[str, ...] | UnsetType, Meta(description="what differs: files, or sha256")] = UNSET
    origin: Annotated[str | UnsetType, Meta(description="where the other result is from, in words")] = UNSET
    built: Annotated[str | UnsetType, Meta(description="where the built one is")] = UNSET
    reused: Annotated[str | UnsetType, Meta(description="where the other one is")] = UNSET
    number: Annotated[_Count | UnsetType, Meta(description="the commit's number")] = UNSET


class BoardFinished(_Payload, frozen=True, tag="board-done"):
    """All commits of a board are in; the slot is free."""


class PartFinished(_Payload, frozen=True, tag="part-done"):
    """The part of a board that a machine was to build is in, the rest is with others; the slot is free."""


class CommitsTrimmed(_Payload, frozen=True, tag="trimmed"):
    """A machine leaves off commits of a board that another builds or has built."""

    commits: Annotated[_Count, Meta(description="how many")]


class FaultFound(_Payload, frozen=True, tag="fault"):
    """A machine's fault cost a board an attempt, which is no result; text says what."""

    kind: Annotated[str, Meta(description="what the machine seems to lack")]
    number: _Number


class MachineChecked(_Payload, frozen=True, tag="check"):
    """A machine has checked itself; text is what it found."""

    well: Annotated[bool, Meta(description="whether it is to be used")]


class SlotsReduced(_Payload, frozen=True, tag="slots"):
    """A machine builds fewer boards at once from now on; text says why."""

    slots: Annotated[_Count, Meta(description="how many")]


class RunWaiting(_Payload, frozen=True, tag="waiting"):
    """No machine is there, and the run waits for one to come back."""

    until: Annotated[float, Meta(description="until when, in seconds since the epoch")]
    machines: Annotated[tuple[str, ...], Meta(description="which may come back")]


class BoardRequeued(_Payload, frozen=True, tag="requeued"):
    """A board goes back to the pool; text says why."""


class ResultGivenUp(_Payload, frozen=True, tag="not-built"):
    """One board at one commit ends without a result; text is the reason."""

    number: _Number


class MessageDropped(_Payload, frozen=True, tag="dropped"):
    """A message of a worker was not used: a duplicate, or not asked for; text says why."""


class Note(_Payload, frozen=True, tag="note"):
    """Anything else to read."""

    differs: Annotated[
        str | UnsetType, Meta(description="an architecture or a tool that differs between machines")
    ] = UNSET
    versions: Annotated[
        Mapping[str, Annotated[Sequence[str], Meta(description="machines")]] | UnsetType,
        Meta(description="machines by version"),
    ] = UNSET


class RunInterrupted(_Payload, frozen=True, tag="interrupted"):
    """The user or a signal stopped the run."""


class RunEnded(_Payload, frozen=True, tag="run-end"):
    """The run ends."""

    counts: EndCounts
    seconds: Annotated[float, Meta(description="how long it took")]
    exit_status: Annotated[int, Meta(description="of the command")]
    output: Annotated[str, Meta(description="the directory of the results")]
    failing: Annotated[tuple[Failure, ...], Meta(description="all that fail, also those that were there already")]
    recovered: Annotated[
        tuple[Recovered, ...], Meta(description="boards that were built only after machines' faults")
    ]
    machines: Annotated[Mapping[str, MachineShare], Meta(description="the machines by name")]


@dataclass(frozen=True)
class UnknownEvent:
    """An event of a kind that this version does not know, as a later version may write it."""

    what: str
    data: Mapping[str, object] = field(default_factory=dict)


Payload = Union[  # noqa: UP007 - get_args gives its members
    RunStarted, PhaseEntered, MachineFailed, StderrLine, WorktreeMade, BoardAssigned, BoardStarted, ResultReceived,
    ResultReused, ReuseAudited, BoardFinished, PartFinished, CommitsTrimmed, FaultFound, MachineChecked,
    SlotsReduced, RunWaiting, BoardRequeued, ResultGivenUp, MessageDropped, Note, RunInterrupted, RunEnded,
    UnknownEvent,
]  # fmt: skip

#: The types of payloads by ``what``.
KINDS: Mapping[str, type[_Payload]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(Payload) if issubclass(kind, _Payload)
}

# What msgspec raises for a value of another type, and for a key that is no valid text.
_UNREADABLE = (msgspec.ValidationError, UnicodeEncodeError)

# What stands for a value that a journal lacks or that is of another type; the first that the field can take.
_ABSENT: tuple[object, ...] = (None, "", 0, False, (), {})


@dataclass(frozen=True)
class Event:
    """Something that happened in a run: one line of the journal, and what the display is drawn from.

    Attributes:
        time: when, in seconds since the epoch.
        payload: what happened.
        machine: where; empty: nowhere in particular.
        slot: in which slot of the machine; None: in none.
        board: which board it is about; empty: none.
        commit: which commit, by its hash; empty: none, or the current source.
        attempt: how often the board was given out, this time included; 0: does not apply.
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
    """Return the payload that an event's ``what`` and ``data`` say.

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
    """Read each field by itself, where they cannot be read together."""
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
