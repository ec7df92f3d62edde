"""The JSON in the page."""

import json
import os
import socket

from fabbuild.reporting.html.document import Sets
from tests.support.docs import page as docs_page
from tests.support.events import comes, start, write_journal
from tests.support.reports import BROKEN, Words, facts_of, page_of, series
from tests.support.results import commit_hash


def test_the_facts_have_each_result(tmp_path):
    own = series(tmp_path, **{"built-from": json.dumps({
        "machine": "m1", "seconds": 12.34, "settings": {"no_lto": True, "adjust_cfg": ["CONFIG_X=y"]},
        "after": ["m2: no space left"], "carried": {"commit": "abc"}, "reused": {"machine": "m0", "commit": "def"}})})  # fmt: skip
    write_journal(own, start(0, "m1"), comes(1, "m1", "arch_2", commit=commit_hash(3), attempt=2))
    facts = facts_of(page_of(tmp_path))
    cells = dict(zip((board[0] for board in facts["boards"]), facts["cells"], strict=True))
    assert {board: (row["v"], row["c"]) for board, row in cells.items()} == {
        "arch_1": ("bbff", "..B."),
        "arch_2": ("bbbw", "...W"),
        "other": ("bbfb", "..BM"),
    }
    row = cells["arch_2"]
    assert [facts["notes"][n] for n in row["n"]["2"]] == [
        "attempt 2",
        "after m2: no space left",
        "carried forward from abc, not built",
        "reused: built on m0 from def",
    ]
    assert facts["machines"][row["m"][2]] == "m1"
    assert row["s"] == [-1, -1, 12, -1]
    assert facts["options"][row["o"]["2"]] == "--no-lto --adjust-cfg=X=y"
    assert row["z"] == {"0": [[0, 1000, 100, 50, 0], [2, 400, 0, 0, 0]]}
    failed = cells["other"]
    assert failed["r"] == {"2": 2}
    assert [facts["lines"][n] for n in facts["texts"][failed["t"][2]]] == list(BROKEN)
    (problem,) = [one for one in facts["problems"] if one[1] == "broke"]
    assert (problem[0], [facts["boards"][n][0] for n in facts["sets"][problem[5]]]) == (2, ["arch_1", "other"])


def test_every_key_of_the_facts_is_on_the_page_that_describes_them(tmp_path):
    own = series(
        tmp_path, log="x\n", **{"built-from": json.dumps({"settings": {"no_lto": True}, "after": ["m: x"]})}
    )
    write_journal(own, start(0, "m1"))
    facts = facts_of(page_of(tmp_path))
    keys = {*facts, *facts["commits"][0], *facts["run"], *facts["run"]["machines"][0]}
    keys |= {key for row in facts["cells"] for key in row}
    assert len(keys) > 50
    assert [key for key in sorted(keys) if f"`{key}`" not in docs_page("report.md")] == []


def test_a_result_that_never_came_is_told_with_its_reason_and_one_to_come_is_not(tmp_path):
    own = series(tmp_path)
    place = next((tmp_path / "series").glob("04_*"))
    for board in ("other", "arch_2"):
        (place / board / "done").unlink()
    never = {"board": "other", "commit": commit_hash(4), "text": "no compiler"}
    write_journal(own, start(0, "m1"), (1, "not-built", never))
    own.joinpath("lock").write_text(f"pid {os.getpid()} on {socket.gethostname()} since now")
    page = page_of(tmp_path)
    facts = facts_of(page)
    assert [row["v"] for row in facts["cells"]] == ["bbff", "bbb.", "bbfn"]
    assert facts["going"]
    assert "Not built: other (riscv64)" in Words(page).text
    assert "the run goes on" in Words(page).text
    own.joinpath("lock").write_text("")  # who is done takes its name out
    assert [row["v"] for row in facts_of(page_of(tmp_path))["cells"]] == ["bbff", "bbbn", "bbfn"]


def test_there_is_an_end_to_lists_of_boards():
    names = [f"b{n}" for n in range(1500)]
    sets = Sets({name: at for at, name in enumerate(names)})
    for at in range(1000):
        sets.of(names[at:])
    assert sum(map(len, sets.lists)) < 250_000
    assert sets.of(names) == 0
