"""What a name on the command line stands for: a file, a directory or a pattern, from the top or from here."""

import pytest

from fabbuild.errors import SelectionError
from fabbuild.source.named_files import named_files

FILES = [
    b"Makefile", b"drivers/net/Makefile", b"drivers/net/foo.c", b"drivers/net/foo.h", b"drivers/net/phy/foo.c",
    b"drivers/network.c", b"lib/odd[1].c", b"lib/odd1.c", b"lib/w\xe9.c",
]  # fmt: skip


@pytest.fixture
def top(tmp_path):
    for file in FILES:
        path = tmp_path / "source" / file.decode("utf-8", "surrogateescape")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "source"


def found(name, top, here=""):
    files = named_files(FILES, name, top, top / here)
    return sorted(file.decode("utf-8", "surrogateescape") for file in files)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drivers/net/foo.c", ["drivers/net/foo.c"]),
        ("drivers//net/../net/foo.c", ["drivers/net/foo.c"]),
        ("drivers/net/*.c", ["drivers/net/foo.c"]),
        ("drivers/*/foo.?", ["drivers/net/foo.c", "drivers/net/foo.h"]),
        ("drivers/net/p*", ["drivers/net/phy/foo.c"]),
        ("drivers/net/", [f"drivers/net/{file}" for file in ("Makefile", "foo.c", "foo.h", "phy/foo.c")]),
        (".", sorted(file.decode("utf-8", "surrogateescape") for file in FILES)),
        ("lib/odd[1].c", ["lib/odd[1].c"]),
        ("lib/odd[12]*.c", ["lib/odd1.c"]),
        ("lib/w\udce9.c", ["lib/w\udce9.c"]),
    ],
)
def test_a_file_a_directory_and_a_pattern_have_their_files(top, name, expected):
    assert found(name, top) == expected


def test_what_is_not_at_the_top_is_looked_for_from_here(top, tmp_path):
    assert found("foo.c", top, "drivers/net") == ["drivers/net/foo.c"]
    assert found("../network.c", top, "drivers/net") == ["drivers/network.c"]
    assert found("phy/*", top, "drivers/net") == ["drivers/net/phy/foo.c"]
    assert found("Makefile", top, "drivers/net") == ["Makefile"]
    assert found("./Makefile", top, "drivers/net") == ["drivers/net/Makefile"]
    assert found(f"{top}/drivers/net/foo.h", top, "..") == ["drivers/net/foo.h"]
    (tmp_path / "link").symlink_to(top)
    assert named_files(FILES, "foo.c", top, tmp_path / "link" / "drivers" / "net") == {b"drivers/net/foo.c"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("foo.h", r"no file 'foo.h'; did you mean drivers/net/foo.h\?"),
        ("drivers/net/fo.c", r"did you mean drivers/net/foo.c or"),
        ("/etc/passwd", "no file '/etc/passwd'$"),
        ("../elsewhere", "no file '../elsewhere'$"),
        ("zzz", "no file 'zzz'$"),
        ("zzz/*", r"no file 'zzz/\*'$"),
    ],
)
def test_a_name_of_nothing_is_an_error_with_what_is_like_it(top, name, words):
    with pytest.raises(SelectionError, match=words):
        found(name, top)
