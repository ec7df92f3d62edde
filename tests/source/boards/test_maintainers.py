"""Status and maintainers of boards."""

from fabbuild.source.boards.maintainers import Maintainers


def test_maintainers():
    known = Maintainers.parse(
        {
            "MAINTAINERS": "Title\nM:\tGeneral <g@x.example>\nS:\tSupported\nN:\tmeson\nN:\t(\nF:\tdrivers/\n",
            "board/a/MAINTAINERS": (
                "ONE\nM:\tA <a@x.example>\nM:\tB <b@x.example>\nS:\tMaintained\nF:\tboard/a/\nF:\tconfigs/one_defconfig\n"
                "\nWILD\nM:     C <c@x.example>\nS:\tOrphan (Since 2020)\nF:\tconfigs/o*_defconfig\n"
                "\nNOBODY\nM:\t-\nS:\tOrphan\nF:\tconfigs/none_defconfig\n"
            ),
        }
    )
    assert known.of("one") == ("Active", ("A <a@x.example>", "B <b@x.example>"))
    assert known.of("other") == ("Orphan (Since 2020)", ("C <c@x.example>",))
    assert known.of("none") == ("Orphan", ())
    assert known.of("my_meson_board") == ("Active", ("General <g@x.example>",))
    assert known.of("unknown") == ("", ())
