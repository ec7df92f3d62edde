"""Events: what a payload says as data, and how that is read again, from another version's journal, too."""

import pytest

from fabbuild.event_types import (
    KINDS,
    Event,
    MachineFailed,
    PhaseEntered,
    ResultReceived,
    UnknownEvent,
    read_payload,
)

DATA = {
    "verdict": "failed",
    "return_code": 2,
    "number": 3,
    "seconds": 1.5,
    "error": "a.c:1: error: no",
    "load_avg": 2.0,
    "after": ["m1: Killed"],
    "phases": {"build": 1.0},
}


def test_an_event_has_the_names_that_its_line_has():
    event = Event(1.0, PhaseEntered("ready", slots=4), "m1")
    assert (event.what, event.data) == ("phase", {"phase": "ready", "slots": 4})
    assert Event(1.0, MachineFailed(None)).data == {"again_in": None}


def test_what_is_read_is_what_was_written():
    read = read_payload("result", DATA)
    assert read == ResultReceived("failed", 2, 3, 1.5, "a.c:1: error: no", 2.0, ("m1: Killed",), {"build": 1.0})
    assert Event(1.0, read).data == DATA


def test_an_unknown_kind_is_kept_as_it_is():
    read = read_payload("tea-time", {"cups": 2})
    assert read == UnknownEvent("tea-time", {"cups": 2})
    assert (Event(1.0, read).what, Event(1.0, read).data) == ("tea-time", {"cups": 2})


@pytest.mark.parametrize("key", ["cups", "\ud800"])
def test_an_unknown_key_is_passed_over(key):
    assert read_payload("check", {"well": True, key: 2}) == read_payload("check", {"well": True})


@pytest.mark.parametrize("text", ["\ud800", "\0", "\U0001f426"])
def test_any_text_is_read_and_told_again(text):
    data = {"differs": text, "versions": {text: [text]}}
    assert Event(1.0, read_payload("note", data)).data == data


@pytest.mark.parametrize(
    ("key", "wrong", "empty"),
    [
        ("seconds", "long", None),
        ("after", "m1", ()),
        ("number", -1, 0),
        ("phases", {"build": "x"}, {}),
        ("error", None, ""),
        ("load_avg", True, 0.0),
    ],
)
def test_a_value_that_is_wrong_or_missing_is_empty_and_the_others_count(key, wrong, empty):
    good = read_payload("result", DATA)
    for data in ({**DATA, key: wrong}, {name: value for name, value in DATA.items() if name != key}):
        read = read_payload("result", data)
        assert getattr(read, key) == empty
        others = set(DATA) - {key}
        assert {name: getattr(read, name) for name in others} == {name: getattr(good, name) for name in others}


@pytest.mark.parametrize("what", KINDS)
def test_every_kind_can_be_read_from_nothing(what):
    read = read_payload(what, {})
    assert isinstance(read, KINDS[what])
    assert read_payload(what, Event(0.0, read).data) == read
