"""Sizes that a user gives."""

import pytest

from fabbuild.protocol.sizes import is_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("700", 700), ("500M", 500_000_000), ("1.5GB", 1_500_000_000), (" 20 g ", 20 * 10**9),
        ("2t", 2 * 10**12), ("3kb", 3000),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert is_size(text)
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "-5M", "1e3", "1.5.5G", "20 GiB", "much", "9999999", "٣G"])
def test_what_is_no_size_is_refused(text):
    assert not is_size(text)
    with pytest.raises(ValueError, match="is not a size; it must be a number, with k, M, G or T behind it"):
        parse_size(text)
