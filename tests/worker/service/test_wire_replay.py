"""What a real boss sent, replayed into our worker: it gets the answers it waits for, and any other is noticed."""

import copy
import shutil
import subprocess

import pytest

from tests.support.tree import available_archs
from tests.worker.boss import Recording, Wrong, check, replay
from tests.worker.driver import KILLED, Worker, work_dir

pytestmark = pytest.mark.deep

SERIES = "boss-series.jsonl"

#: Those of the current source, with null for the commit.
CURRENT = ["boss-current.jsonl", "boss-config-only.jsonl", "boss-flags.jsonl"]


def placed(name, template):
    """Fill a recording in for this machine, or skip."""
    recording = Recording(name)
    archs = available_archs()
    if missing := recording.archs - set(archs):
        pytest.skip(f"no compiler for {', '.join(sorted(missing))}")
    named = subprocess.run(
        ["git", "-C", str(template.path), "rev-list", "--reverse", template.branch],
        capture_output=True,
        text=True,
        check=True,
    )
    compilers = {arch: shutil.which(f"{prefix}gcc") for arch, prefix in archs.items()}
    return recording.place(named.stdout.split(), compilers)


def run(recording, template, place):
    """Replay it into a fresh worker of two slots."""
    work = work_dir(place, template.path, template.branch)
    # One job a make: how far others come before a failure ends them is chance.
    with Worker(work, "--threads", "1", "--max-boards", "2") as worker:
        answers = replay(recording, worker)
        assert worker.get() is None
        assert worker.ended() == KILLED
    assert all(line.startswith(b"BM> ") for line in worker.lines)
    return answers


@pytest.fixture(scope="session")
def series(sample_template, tmp_path_factory):
    """A replay of the series: the recording, the answers, and those of a second worker."""
    place = tmp_path_factory.mktemp("replay")
    recording = placed(SERIES, sample_template)
    return (
        recording,
        run(recording, sample_template, place / "a"),
        run(recording, sample_template, place / "b"),
    )


def test_the_recorded_boss_gets_the_answers_it_waits_for(series):
    recording, answers, reference = series
    assert len(recording.answers) == len(answers)
    check(recording, answers, reference)


@pytest.mark.parametrize("name", CURRENT)
def test_the_current_source_with_and_without_settings(sample_template, tmp_path, name):
    recording = placed(name, sample_template)
    answers = run(recording, sample_template, tmp_path / "a")
    check(recording, answers, run(recording, sample_template, tmp_path / "b"))
    results = [m for m in answers if m["resp"] == "build_result"]
    assert len(results) == len(recording.commands) - 4
    assert all(m["return_code"] == (2 if "flags" in name and m["stderr"] else 0) for m in results)


def other(value):
    """Give other values that could stand there."""
    if isinstance(value, bool):
        return [not value, None]
    if isinstance(value, int):
        return [value + 1, -1, str(value), None]
    if isinstance(value, float):
        return ["0.5", -1.0, None, 1]
    if isinstance(value, str):
        return [value + "x", None, 0]
    if isinstance(value, dict):
        return [
            {},
            None,
            {**value, "more": ""},
            *({key: new} for key, old in value.items() for new in other(old)),
        ]
    return [None]


def alterations(answers):
    """Give each way to alter one answer: what it is, and the answers with it."""
    for index, message in enumerate(answers):
        name = f"{index} {message['resp']}"
        yield f"{name} left out", answers[:index] + answers[index + 1 :]
        yield f"{name} twice", answers[: index + 1] + answers[index:]
        yield f"{name} is an error", [*answers[:index], {"resp": "error", "msg": "x"}, *answers[index + 1 :]]
        for field, value in message.items():
            if field in ("protocol", "features"):
                continue  # extensions, which this boss does not read
            without = {key: kept for key, kept in message.items() if key != field}
            yield f"{name} without {field}", [*answers[:index], without, *answers[index + 1 :]]
            for new in other(value):
                altered = {**copy.deepcopy(message), field: new}
                yield f"{name} with {field} {new!r}", [*answers[:index], altered, *answers[index + 1 :]]
        yield f"{name} with more", [*answers[:index], {**message, "more": 1}, *answers[index + 1 :]]


def test_any_one_altered_answer_is_noticed(series):
    recording, answers, reference = series
    missed = []
    count = 0
    for what, altered in alterations(answers):
        count += 1
        try:
            check(recording, altered, reference)
        except Wrong:
            continue
        missed.append(what)
    assert count > 1000
    assert missed == []


def test_two_answers_in_the_wrong_order_are_noticed(series):
    recording, answers, reference = series
    for index in range(len(answers) - 1):
        one, two = answers[index], answers[index + 1]
        if {one["resp"], two["resp"]} <= {"heartbeat", "build_result"} and one.get("board") != two.get("board"):
            continue  # two slots at work: either may come first
        swapped = [*answers[:index], two, one, *answers[index + 2 :]]
        with pytest.raises(Wrong):
            check(recording, swapped, reference)


@pytest.mark.parametrize("spoil", [b"", b"BM>", b"bm> ", b"BM> x"])
def test_an_answer_without_its_prefix_is_no_answer(spoil):
    """The prefix is what the boss finds answers by."""
    from fabbuild.protocol.wire import PREFIX, encode_response

    line = encode_response("ready", nthreads=1, slots=1)
    assert line.startswith(PREFIX)
    assert not (spoil + line[len(PREFIX) :]).startswith(PREFIX + b"{")
