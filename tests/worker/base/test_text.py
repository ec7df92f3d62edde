"""Cutting, decoding, and taking this machine's paths out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.protocol.build_output import PathShortener
from fabbuild.worker.base.text import NOTE_ROOM, Clip, cut, decode

NOTE = re.compile(r"\[\.\.\. (\d+) of (\d+) bytes cut here \.\.\.\]")
LIMITS = st.integers(min_value=4 * NOTE_ROOM, max_value=2000)
CHUNKS = st.lists(st.binary(max_size=700) | st.text("ä€𝄞x\n", max_size=300).map(str.encode), max_size=20)


@given(CHUNKS, LIMITS)
def test_a_clip_is_bounded_and_keeps_both_ends(chunks, limit):
    clip = Clip(limit)
    for chunk in chunks:
        clip.feed(chunk)
    whole = b"".join(chunks)
    text = clip.text()
    assert clip.total == len(whole)
    assert len(text.encode()) <= limit
    if len(whole.decode("utf-8", "replace").encode()) <= limit:
        assert text == whole.decode("utf-8", "replace")
    else:
        assert NOTE.search(text)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=40), max_size=300), LIMITS)
def test_a_cut_text_is_whole_characters_and_tells_how_much_is_gone(lines, limit):
    data = "\n".join(lines).encode()
    kept = cut(data, limit)
    assert len(kept) <= limit
    kept.decode()  # whole characters
    if len(data) <= limit:
        assert kept == data
        return
    note = NOTE.search(kept.decode())
    head, tail = kept.decode()[: note.start()].rstrip("\n"), kept.decode()[note.end() :].removeprefix("\n")
    assert data.decode().startswith(head)
    assert data.decode().endswith(tail)
    assert int(note[2]) == len(data)
    assert 0 < int(note[1]) <= len(data)


@given(CHUNKS, LIMITS)
def test_a_clip_cuts_as_if_it_had_seen_all_at_once(chunks, limit):
    clip = Clip(limit)
    for chunk in chunks:
        clip.feed(chunk)
    whole = b"".join(chunks)
    assert clip.text() == decode(cut(whole, limit), limit)


def test_a_cut_falls_between_lines():
    data = b"".join(b"line %d\n" % number for number in range(1000))
    lines = cut(data, 1000).split(b"\n")
    assert all(re.fullmatch(rb"line \d+|\[\.\.\. .* \.\.\.\]|", line) for line in lines)
    assert lines[0] == b"line 0"
    assert lines[-2] == b"line 999"


@given(st.binary(max_size=3000), LIMITS)
def test_any_bytes_decode_within_the_limit(data, limit):
    assert len(decode(data, limit).encode()) <= limit


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/w/slots/00/drivers/a.c:3: warning: x", "drivers/a.c:3: warning: x"),
        ("In file included from /w/slots/00/include/a.h:1,", "In file included from include/a.h:1,"),
        ("../drivers/a.c: In function 'f':", "drivers/a.c: In function 'f':"),
        ("                 from ../include/b.h:7:", "                 from include/b.h:7:"),
        ("/w/slots/00/build/../a.c:1: x", "a.c:1: x"),
        ("build/../a.c:1: x", "a.c:1: x"),
        ("/w/slots/00/build/include/generated/autoconf.h:1: x", "build/include/generated/autoconf.h:1: x"),
        ("-I/w/slots/00/include -L../lib", "-Iinclude -Llib"),
        ("'/w/slots/00/a' (/w/slots/00/b)", "'a' (b)"),
        ("/w/slots/000/a.c", "/w/slots/000/a.c"),
        ("/mnt/w/slots/00/a.c", "/mnt/w/slots/00/a.c"),
        ("a/../b.c", "a/../b.c"),
        ("../../outside.c", "../../outside.c"),
        ("wait... ../a.c", "wait... a.c"),
        ("...", "..."),
        ("/w/slots/00", "/w/slots/00"),
    ],
)
def test_paths_are_relative_to_the_tree(text, short):
    assert PathShortener("/w/slots/00")(text) == short


WORDS = st.sampled_from(
    ["../", "/", "a.c", "b", " ", "\n", "/w/slots/00", "/w/slots/00/", "build/", ":1:", "'", ".", "-I"]
)


@given(st.lists(WORDS, max_size=30).map("".join))
def test_shortening_only_takes_away_and_leaves_no_path_of_the_tree(text):
    short = PathShortener("/w/slots/00")(text)
    characters = iter(text)
    assert all(character in characters for character in short)
    assert not re.search(r"(?<![\w.\-/])/w/slots/00/+[a-z]", short) or "/w/slots/00/w" in text


@given(
    st.from_regex(r"/[a-z]{1,8}(/[a-z0-9]{1,8}){0,3}", fullmatch=True),
    st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,3}\.c", fullmatch=True),
)
def test_a_message_reads_the_same_wherever_the_tree_is(tree, file):
    message = "{}:3:7: error: no such thing\n"
    assert PathShortener(tree)(message.format(f"{tree}/{file}")) == message.format(file)
    assert PathShortener(tree)(message.format(f"../{file}")) == message.format(file)
