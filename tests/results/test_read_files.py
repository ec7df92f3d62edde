"""The files ``depends`` of results: `fabbuild.results.read_files`."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabbuild.protocol import relevance
from fabbuild.results.read_files import split_depends

_lines = st.text("ab./\0", max_size=4).map(str.encode) | st.sampled_from(
    [b"..", b"a/..", b"../a", b"a/../b", b"a..b", b"/a", b"\xc3\xa4", b"\xff", b"\xee\x80\x80", b"a", b"b/c.h"]
)
_sorted = st.sets(_lines, max_size=5).map(sorted)


@given(_sorted | st.lists(_lines, max_size=5), st.sampled_from([b"\n", b"", b"\n\n"]))
@example([b"\xee\x80\x80", b"\xff"], b"\n")  # in order as bytes, but not as text
@example([b"a", b"a"], b"\n")
@example([b"a/../b"], b"\n")
@example([b"/a"], b"\n")
@example([b"a..b"], b"\n")
@example([b"a\0"], b"\n")
@example([], b"")
def test_a_list_is_split_or_refused_as_the_protocol_has_it(lines, end):
    data = b"\n".join(lines) + end
    try:
        paths = relevance.parse_depends(data)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
            split_depends(data)
    else:
        assert split_depends(data) == [os.fsencode(path) for path in paths]
