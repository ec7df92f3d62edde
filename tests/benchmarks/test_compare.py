"""What `benchmarks/compare.py` makes of what two programs left and of what was measured."""

import json
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from comparelib import agree, measure, phases, scenarios, tables
from comparelib.farm import delete_but
from comparelib.ways import Order, make_way

OLD, NEW = "a.c:1:1: warning: old", "a.c:2:1: warning: new"


def fact(*words, code=0, sizes=("1 2 3",), image=""):
    return agree.Fact(code, frozenset(words), sizes, image)


def figures(wall, **other):
    zeros = dict.fromkeys(("status", "cpu", "processes", "wire", "boss", "made", "busy", "before", "began"), 0)
    return measure.Figures(wall=wall, **{**zeros, **other})


def test_a_warning_that_the_peer_does_not_repeat_is_told_apart_from_a_difference():
    ours = {"b": {1: fact(OLD), 2: fact(OLD, NEW)}}
    found = agree.compare(ours, {"b": {1: fact(OLD), 2: fact(NEW)}})
    assert (found.unrepeated, found.wrong, found.compared) == (1, [], 2)
    assert "1 of the peer's lack warnings" in str(found)


def test_a_warning_that_the_peer_never_had_is_a_difference():
    found = agree.compare({"b": {1: fact(), 2: fact(NEW)}}, {"b": {1: fact(), 2: fact()}})
    assert found.unrepeated == 0
    assert len(found.wrong) == 1
    assert NEW in found.wrong[0]


def test_so_is_one_that_it_gave_for_the_board_before_in_the_same_directory():
    ours = {"a": {1: fact(OLD)}, "b": {1: fact(OLD)}}
    found = agree.compare(ours, {"a": {1: fact(OLD)}, "b": {1: fact()}})
    assert (found.unrepeated, found.wrong) == (1, [])


def test_a_warning_that_we_lack_is_a_difference_also_where_the_peer_does_not_repeat_one():
    found = agree.compare({"b": {1: fact(OLD), 2: fact(OLD)}}, {"b": {1: fact(OLD), 2: fact(NEW)}})
    assert len(found.wrong) == 1


def test_sizes_may_differ_by_the_text_of_a_version_where_that_is_expected():
    def found(*sizes, most=32):
        ours = fact(sizes=("137308 9720 0 147028 23e54 u-boot 00007f11", "9 9 9 27 1b spl/u-boot-spl 00000004"))
        found = agree.compare({"b": {1: ours}}, {"b": {1: fact(sizes=sizes)}}, version=most)
        return found.versions, len(found.wrong)

    spl = "9 9 9 27 1b spl/u-boot-spl 00000004"
    assert found(spl, "137328 9720 0 147048 23e68 u-boot 00007f25") == (1, 0)
    assert found(spl, "137328 9720 0 147048 23e68 u-boot 00007f25", most=0) == (0, 1)
    assert found(spl, "137328 9720 0 147048 23e68 u-boot 00007f11") == (0, 1), "it is the code that is longer"
    assert found(spl, "137308 9740 0 147048 23e68 u-boot 00007f11") == (0, 1), "it is the data that is longer"
    assert found(spl, "137348 9720 0 147068 23e7c u-boot 00007f39") == (0, 1), "that is more than a version"
    assert found(spl, "137300 9720 0 147020 23e4c u-boot 00007f09") == (0, 1), "it is shorter"
    assert found("137328 9720 0 147048 23e68 u-boot 00007f25") == (0, 1), "a file lacks"


def test_outcomes_sizes_images_and_missing_results_are_differences():
    here = {"b": {1: fact(), 2: fact(image="x"), 3: fact(), 4: fact()}}
    there = {"b": {1: fact(code=2), 2: fact(image="y"), 3: fact(sizes=()), 5: fact()}}
    found = agree.compare(here, there)
    assert [line.split(":")[0] for line in found.wrong] == [f"b @ 0{number}" for number in (4, 5, 1, 2, 3)]
    assert (found.compared, found.images) == (3, 1)


def test_the_same_compiler_is_the_same_wherever_it_stands():
    lines = [
        "arm-linux-gnueabihf-ld.bfd: warning: a.o: missing .note.GNU-stack",
        "/home/me/.tools/arm/bin/arm-linux-ld.bfd: warning: a.o: missing .note.GNU-stack",
    ]
    assert agree.words(lines[0]) == agree.words(lines[1])
    assert agree.words("../a-b.c:1: warning: x") == {"a-b.c:1: warning: x"}
    assert not agree.words("make[1]: *** Waiting for unfinished jobs.... error: x")


def test_images_are_read_where_they_were_kept_and_where_their_checksum_is_told(tmp_path):
    for board, name, text in (("kept", "u-boot.bin", "abc"), ("told", "built-from", json.dumps({"sha256": "s"}))):
        place = tmp_path / "main" / "01_gabcdef_Subject" / board
        place.mkdir(parents=True)
        (place / "done").write_text("0\n")
        (place / name).write_text(text)
    found = agree.facts(tmp_path)
    assert found["told"][1].image == "s"
    assert found["kept"][1].image.startswith("ba7816bf")


def test_no_rodata_is_the_same_as_none_of_it(tmp_path):
    for board, line in (("a", "52 0 0 52 34 u-boot 00000000\n"), ("b", " 52  0  0  52  34  u-boot\n")):
        place = tmp_path / "main" / "01_gabcdef_Subject" / board
        place.mkdir(parents=True)
        (place / "done").write_text("0\n")
        (place / "sizes").write_text(line)
    found = agree.facts(tmp_path)
    assert found["a"][1].sizes == found["b"][1].sizes == ("52 0 0 52 34 u-boot",)


def test_what_is_no_cache_is_deleted_alike_for_each_way(tmp_path):
    for name, kept in (("fabbuild", "work/cache/ccache/x"), ("buildman-best", "out/main/.bm-work/.dtc/x")):
        way = make_way(name, tmp_path, 2)
        for path in (kept, "work/repo.git/x", "out/main/.bm-work/00/x", "out/main/x", "home/data/x"):
            (way.base / path).parent.mkdir(parents=True, exist_ok=True)
            (way.base / path).write_text("")
        way.delete(caches=False)
        assert [path for path in way.base.rglob("*") if path.is_file()] == [way.base / kept]
        way.delete(caches=True)
        assert not list(way.base.iterdir())


def test_a_link_to_a_directory_is_deleted_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far")
    delete_but((), tmp_path / "near")
    assert (tmp_path / "far" / "file").exists()
    assert not list((tmp_path / "near").iterdir())


def test_a_table_has_medians_and_ratios_to_the_peer_plain_and_at_its_best():
    rows = {
        "fabbuild": tables.Row([figures(10.0, cpu=5), figures(30.0, cpu=5), figures(20.0, cpu=5)]),
        "buildman": tables.Row([figures(40.0, cpu=10)], "a"),
        "buildman-best": tables.Row([figures(30.0, cpu=0)]),
    }
    ours, plain, _best = tables.cells(rows)
    assert ours[1] == "20.0"
    assert ours[7:] == ["2.00", "2.00", "1.50", "0.00", "10.0 30.0 20.0"]
    assert plain[-1] == "as (a)"
    assert "| fabbuild | 20.0 |" in tables.markdown_table("b", rows)
    assert tables.plain_table("b", rows).startswith("(b) ")


def test_options_of_a_way_stand_behind_its_name(tmp_path):
    order = Order(tmp_path, "main", ("b",), count=1)
    assert "--no-reuse" in make_way("fabbuild+--no-reuse", tmp_path, 2).argv(order)
    best = make_way("buildman-best+-L", tmp_path, 2)
    assert {"--ccache", "--shared-dtc", "-L"} <= set(best.argv(order))
    assert not make_way("buildman", tmp_path, 2).has_caches


def test_a_chain_ends_with_the_last_step_that_is_wanted():
    steps = [scenarios.Step(name, Order(Path(), "", ()), scenarios.Delete.ALL) for name in ("", "e", "e2")]
    assert [step.name for step in scenarios.wanted(steps, ["e"])] == ["", "e"]
    assert not scenarios.wanted(steps, ["a"])
    assert {name for chain in scenarios.CHAINS for name in chain.names} == scenarios.TITLES.keys()


def test_phases_are_those_of_the_last_run_by_the_machine_that_took_longest(tmp_path):
    def phase(time, machine, name):
        return {"time": time, "what": "phase", "machine": machine, "data": {"phase": name}}

    journal = tmp_path / "journal.ndjson"
    events = [
        phase(1.0, "m", "probe"),
        {"time": 2.0, "what": "run-end", "machine": "", "data": {}},
        *(phase(12.0, "m", "probe"), phase(13.0, "m", "push"), phase(15.0, "m", "ready")),
        *(phase(12.0, "n", "probe"), phase(13.5, "n", "push"), phase(14.5, "n", "ready")),
        {"time": 16.0, "what": "result", "machine": "m", "data": {"carried": {"commit": "c"}}},
        {"time": 16.0, "what": "result", "machine": "m", "data": {}},
        {"time": 16.0, "what": "reused", "machine": "", "data": {}},
        {"time": 19.0, "what": "run-end", "machine": "", "data": {}},
    ]
    journal.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"torn')
    told = phases.phases(phases.last_run(journal), figures(10.0, began=11.0, before=5.0, made=4.0))
    seconds = {"begin": 1.0, "probe": 1.5, "push": 2.0, "first make": 5.0, "end": 1.0}
    assert told == seconds | {"reused": 1, "carried": 1, "built": 1}
    assert tables.phases_line("fabbuild", told).endswith("1 reused, 1 carried, 1 built")


def test_what_a_command_leaves_behind_and_what_serves_it_counts_to_the_end(tmp_path):
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listen = f"import socket\ns = socket.create_server(('127.0.0.1', {port}))\ntime.sleep(100)\n"
    found = measure.run(
        ["sh", "-c", f"{sys.executable} -c '{burn}' &"],
        env={"PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        log=tmp_path / "log",
        boss="nothing",
        servers=[measure.Server([sys.executable, "-c", burn + listen], "127.0.0.1", port)],
    )
    assert found.status == 0
    # Each of the two takes 0.3 s; the system counts in hundredths, rounded down.
    assert found.cpu > 0.5


def test_what_is_left_of_another_range_is_not_compared(tmp_path):
    for commit in ("01_gabcdef_Subject", "02_gabcde0_Before"):
        place = tmp_path / "main" / commit / "a"
        place.mkdir(parents=True)
        (place / "done").write_text("0\n")
    assert set(agree.facts(tmp_path, 1)["a"]) == {1}
    assert set(agree.facts(tmp_path)["a"]) == {1, 2}
