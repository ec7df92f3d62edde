"""Bound and decode the text that programs write."""

from __future__ import annotations

from collections import deque
from typing import Deque

from fabbuild.protocol.wire import MAX_TEXT

#: The greatest length of the note about a cut, in bytes.
NOTE_ROOM = 96

#: The furthest that a cut is moved to fall between two lines, in bytes.
_LINE_REACH = 4096


class Clip:
    """Keep the beginning and the end of a stream of bytes in bounded memory.

    Attributes:
        total: bytes fed so far, kept or not.
    """

    def __init__(self, limit: int = MAX_TEXT) -> None:
        """Keep about ``limit`` bytes, at least 4 times `NOTE_ROOM`."""
        self.total = 0
        self._limit = max(limit, 4 * NOTE_ROOM)
        self._head = bytearray()
        self._tail: Deque[bytes] = deque()
        self._tail_size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        room = self._limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        self._tail.append(data)
        self._tail_size += len(data)
        # Half a limit of the end is kept; whole chunks go, so that nothing is copied.
        while self._tail_size - len(self._tail[0]) >= self._limit // 2:
            self._tail_size -= len(self._tail.popleft())

    def text(self) -> str:
        """Return the kept text with a note where some is missing; at most ``limit`` bytes of UTF-8."""
        if self.total <= self._limit:
            return decode(bytes(self._head), self._limit)
        tail = b"".join(self._tail)
        if len(tail) < self._limit // 2:
            # The head was filled first, so the end may begin in it.
            tail = bytes(self._head)[-(self._limit // 2 - len(tail)) :] + tail
        return decode(_join(bytes(self._head), tail, self.total, self._limit), self._limit)


def decode(data: bytes, limit: int = MAX_TEXT) -> str:
    """Decode UTF-8 with replacement and cut the middle, so that the text is at most ``limit`` bytes of UTF-8."""
    text = data.decode("utf-8", "replace")
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return cut(encoded, limit).decode("utf-8", "replace")


def cut(data: bytes, limit: int = MAX_TEXT) -> bytes:
    """Cut the middle, so that at most ``limit`` bytes stay (at least 4 times `NOTE_ROOM`), with a note of how much.

    A character of UTF-8 is never cut in two, and a line only when it is longer than 4096 bytes.
    """
    limit = max(limit, 4 * NOTE_ROOM)
    if len(data) <= limit:
        return data
    return _join(data, data, len(data), limit)


def _join(head: bytes, tail: bytes, total: int, limit: int) -> bytes:
    """Join the beginning of ``head``, a note and the end of ``tail``, at most ``limit`` bytes."""
    half = (limit - NOTE_ROOM) // 2
    head = _whole_end(head[:half])
    tail = _whole_start(tail[-half:])
    note = b"\n[... %d of %d bytes cut here ...]\n" % (total - len(head) - len(tail), total)
    return head + note + tail


def _whole_end(data: bytes) -> bytes:
    newline = data.rfind(b"\n", max(0, len(data) - _LINE_REACH))
    if newline >= 0:
        return data[:newline]
    # At most three bytes of an unfinished character stand at the end.
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            need = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return data[:-back] if need > back else data
    return data


def _whole_start(data: bytes) -> bytes:
    newline = data.find(b"\n", 0, _LINE_REACH)
    if newline >= 0:
        return data[newline + 1 :]
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
