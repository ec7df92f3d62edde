"""What is kept of an output directory, and what is sent of it, by a real worker and alone."""

import base64
import os
import zlib
from pathlib import Path

import pytest

from fabbuild.protocol.names import is_pattern
from fabbuild.protocol.wire import FILE_MOST, PIECE
from fabbuild.worker.build import artifact_sender
from fabbuild.worker.build.artifact_sender import Delivery
from fabbuild.worker.build.result_files import ALL_OUTPUTS, ResultFile, kept, name_of, stale_products
from tests.worker.build.test_builder import build, commits_of
from tests.worker.driver import MAKEFILE, Worker


@pytest.fixture
def output(tmp_path):
    """An output directory as Kbuild has it: with a link to the source, in which it lies."""
    place = tmp_path / "tree" / "build"
    for name in ("u-boot", "u-boot.bin", "System.map", "MLO", "main.o", ".config", "u-boot.cfg", "spl/u-boot-spl.bin",
                 "spl/other.bin", "spl/main.o", "arch/arm/dts/x.dtb", "include/autoconf.mk"):  # fmt: skip
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (tmp_path / "tree" / "main.c").write_text("source")
    (place / "source").symlink_to("..")
    (place / "secret.bin").symlink_to("/etc/passwd")
    os.mkfifo(place / "pipe.bin")
    return place


def test_all_that_matters_is_kept_by_the_names_the_peer_has(output):
    names = {file.name for file in kept(str(output), ALL_OUTPUTS)}
    assert names == {"MLO", "System.map", "u-boot", "u-boot-spl.bin", "u-boot.bin", "u-boot.cfg"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("spl/*.bin", {"spl-other.bin", "u-boot-spl.bin"}),
        ("**/*.dtb", {"arch-arm-dts-x.dtb"}),
        ("**/*.c", set()),
        ("*/main.?", {"spl-main.o"}),
        ("**/main.[a-o]", {"main.o", "spl-main.o"}),
        (".config", {".config"}),
        ("nothing/**", set()),
        ("spl/**", {"spl-main.o", "spl-other.bin", "u-boot-spl.bin"}),
        ("*", {"MLO", "System.map", "main.o", "u-boot", "u-boot.bin", "u-boot.cfg"}),
    ],
)
def test_patterns_name_files_below_the_output_directory_and_follow_no_link(output, pattern, names):
    assert is_pattern(pattern)
    assert {file.name for file in kept(str(output), [pattern])} == names


@pytest.mark.parametrize(
    "pattern", ["", "/etc/*", "../*", "a/../../b", "a//b", "a b", "a\\b", "$HOME", "a;b", "x\n"]
)
def test_patterns_that_lead_elsewhere_are_none(pattern):
    assert not is_pattern(pattern)


def test_what_is_kept_is_removed_before_a_build_but_not_what_it_is_configured_by(output):
    products, by_products = stale_products(str(output), ["**/*", ".config"])
    for path in products:
        Path(path).unlink()
    assert not by_products
    left = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file() and not path.is_symlink()}
    assert left == {".config", "u-boot.cfg", "include/autoconf.mk"}
    assert (output.parent / "main.c").exists()


def test_names_have_no_directories():
    assert name_of("u-boot.bin") == "u-boot.bin"
    assert name_of("spl/u-boot-spl.bin") == "u-boot-spl.bin"
    assert name_of("spl/u-boot.cfg") == "spl-u-boot.cfg"
    assert name_of("a/b/c.dtb") == "a-b-c.dtb"


def sent(delivery_of):
    """Deliver; give the fields of the result, and each file that was put together from its pieces."""
    messages = []
    fields = delivery_of(Delivery(lambda resp, **what: messages.append(what), "one", {"attempt": 3}))
    whole = {}
    for message in messages:
        assert (message["board"], message["attempt"]) == ("one", 3)
        piece = zlib.decompress(base64.b64decode(message["data"]))
        assert len(piece) <= PIECE
        whole[message["name"]] = whole.get(message["name"], b"") + piece
    return fields, whole, [message["last"] for message in messages]


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_file_of_any_size_goes_in_pieces(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "x").write_bytes(content)
    fields, whole, last = sent(lambda delivery: delivery.deliver(0, [ResultFile("x.bin", str(tmp_path / "x"))]))
    assert fields == {"files": ["x.bin"], "unchanged": {}}
    assert whole == {"x.bin": content}
    assert last == [False] * (len(last) - 1) + [True]


def test_what_cannot_be_sent_is_left_out_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact_sender, "FILES_MOST", FILE_MOST + 10)
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(FILE_MOST + 1)
    odd = [
        ResultFile("big", str(big)),
        ResultFile("gone", str(tmp_path / "gone")),
        ResultFile("done", "", b"0"),
        ResultFile("a b", "", b"0"),
    ]
    fields, whole, _ = sent(lambda delivery: delivery.deliver(0, [*odd, ResultFile("fine", "", b"x")]))
    assert (fields["files"], whole) == (["fine"], {"fine": b"x"})
    assert set(fields["left_out"]) == {"big", "gone", "done", "a b"}
    assert "256 MiB" not in fields["left_out"]["gone"]
    assert "more than the 256" in fields["left_out"]["big"]


def test_the_plain_protocol_has_no_files_and_a_failures_configuration_in_its_result(work, source):
    commits = commits_of(source, work, {"main.c": "#error\n"})
    with Worker(work) as worker:
        worker.start(commits)
        worker.send("build_board", board="one", arch="sandbox")
        worker.send("build_done")
        taken = worker.until("build_done")
    assert {message["resp"] for message in taken} == {"heartbeat", "build_result", "build_done"}
    good, bad = (message for message in taken if message["resp"] == "build_result")
    assert not {"files", "unchanged", "config"} & good.keys()
    assert bad["config"] == {".config": "CONFIG_ONE=y\n"}
    assert not {"files", "unchanged"} & bad.keys()


def test_no_result_has_a_file_that_another_commit_or_board_left(work, source):
    some = MAKEFILE.replace(
        "all: $(O)/u-boot\n", "all: $(O)/u-boot\n\t@mkdir -p $(O)/dts; touch $(O)/u-boot.img $(O)/dts/x.dtb\n"
    )
    commits = commits_of(source, work, {"Makefile": some}, {"Makefile": MAKEFILE})[1:]
    settings = {"keep_outputs": True, "keep": ["dts/*.dtb"]}
    results = build(work, commits, "one", settings=settings, features=["files", "attempt"])
    first, second = ({*results["one", upto]["files"], *results["one", upto]["unchanged"]} for upto in range(2))
    assert first - second == {"u-boot.img", "dts-x.dtb"}
    assert "u-boot.bin" in second
    # As if another board had left it before it was asked for.
    left = work / "slots" / "00" / "build" / "dts" / "x.dtb"
    left.write_text("left")
    results = build(work, commits[1:], "two", settings=settings, features=["files"])
    assert "dts-x.dtb" not in results["two", 0]["files"]


def test_what_a_compiler_writes_beside_an_object_is_kept_as_from_scratch(work, source):
    """make knows nothing of it: removed, it does not come back; left there, it may be an object's that is no more."""
    makefile = MAKEFILE.replace("gcc -c", "gcc $(FLAGS) -c").replace(
        "$(O)/u-boot: $(O)/main.o", "$(O)/%.o: %.c\n\t@gcc $(FLAGS) -c -o $@ $<\n$(O)/u-boot: $(O)/main.o $(MORE)"
    )
    flags = "FLAGS = -fstack-usage\n"
    commits = commits_of(
        source,
        work,
        {"Makefile": flags + "MORE = $(O)/more.o\n" + makefile, "more.c": "int f(void) { return 1; }\n",
         "main.c": "int x(void) { return 2; }\n"},
        {"README": "x\n"},
        {"main.c": "int y;\n#pragma GCC optimize 2\n"},
        {"Makefile": flags + makefile},
        {"Makefile": makefile},
        {"main.c": "int z(void) { return 1; }\n"},
    )[1:]  # fmt: skip
    results = build(work, commits, settings={"keep": ["**/*.su"]}, features=["files"])
    named = [sorted([*result["files"], *result["unchanged"]]) for _, result in sorted(results.items())]
    su = [[name for name in names if name.endswith(".su")] for names in named]
    assert su[:4] == [["main.su", "more.su"], ["main.su", "more.su"], ["main.su", "more.su"], ["main.su"]]
    assert su[5] == []
