"""The page: what it says without a script, and that text from results stays text."""

import base64
import hashlib
import json
import re

from fabbuild.reporting.html.page import base_of, script_json
from tests.support.events import begins, comes, ready, start, write_journal
from tests.support.farm import ROOT
from tests.support.reports import BROKEN, WARNING, Words, facts_of, page_of, series
from tests.support.results import commit_hash, fails, flaky, warns, write_results


def test_without_a_script_the_page_has_verdict_commits_and_tables(tmp_path):
    series(tmp_path)
    text = Words(page_of(tmp_path)).text
    for words in (
        "Breaks 1 board at 03 0303030303; still broken at the end of the series. Breaks 1 more board, fixed by 04 ",
        "Breaks: 2 boards (arm 1, riscv64 1)",
        "drivers/x.c:3:4: error: 'y' undeclared",
        f"Again: inv build --only arch_1 --commits {commit_hash(3)[:12]}",
        "Fixes: other (riscv64)",
        "New warnings: arch_2 (arm)",
        WARNING,
        "Sizes on average, in bytes a board Architecture Boards Change arm 1 of 1 all +400.0 text +400.0",
        "arch_1 arm · · F F arch_2 arm · · · w other riscv64 · · F ·",
    ):
        assert words in text, words


def test_what_is_there_at_the_first_commit_is_no_change(tmp_path):
    bad = {"a": fails(*BROKEN), "b": warns(WARNING)}
    write_results(tmp_path, {1: bad, 2: bad})
    page = page_of(tmp_path)
    assert [(row["v"], row["c"]) for row in facts_of(page)["cells"]] == [("ff", ".."), ("ww", "..")]
    assert "State at the first commit Already fails: a" in Words(page).text


def test_boards_that_were_flaky_are_told_at_their_commit(tmp_path):
    write_results(tmp_path, {1: {"a": {}, "b": {}}, 2: {"a": flaky("x.c:1:2: error: once"), "b": {}}})
    page = page_of(tmp_path)
    words = "Flaky, built after a failure that did not come again: a x.c:1:2: error: once"
    assert words in Words(page).text
    row = facts_of(page)["cells"][0]
    assert (row["v"], row["c"]) == ("bb", "..")


def test_how_a_run_ended_before_its_time_is_said(tmp_path):
    write_results(tmp_path, {1: {"a": fails(*BROKEN)}})
    own = tmp_path / "series" / ".fabbuild"
    own.mkdir(exist_ok=True)
    ends = {
        "interrupted": "It was interrupted.",
        "stopped": "It ended early: 2 boards failed, as --stop-at 2 asks.",
    }
    for what, words in ends.items():
        write_journal(
            own, start(0, "m1"), (1, what, {"text": "2 boards failed, as --stop-at 2 asks"}), (2, "run-end", {})
        )
        text = Words(page_of(tmp_path)).text
        assert words in text
        assert sum(one in text for one in ends.values()) == 1


EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u202eevil\x1b[2J\u2028x"


def test_what_results_say_stays_text_and_is_visible(tmp_path):
    board = "b<i>&'\"\u202e"
    write_results(
        tmp_path, {1: {board: {}}, 2: {board: {**fails(f"x.c:1:2: error: {EVIL}"), "log": EVIL, "host": EVIL}}}
    )
    own = tmp_path / "series" / ".fabbuild"
    own.mkdir()
    listed = [{"number": n, "hash": commit_hash(n), "subject": EVIL} for n in (1, 2)]
    own.joinpath("commits.json").write_text(json.dumps({"boards": {board: EVIL}, "commits": listed}))
    write_journal(
        own, start(0, EVIL), ready(0, EVIL), begins(1, EVIL, EVIL), comes(2, EVIL, EVIL, EVIL),
        (3, "fault", {"machine": EVIL, "board": EVIL, "text": EVIL, "kind": EVIL}),
        (3, "machine-failed", {"machine": EVIL, "text": EVIL}), (4, "run-end", {"exit_status": EVIL}))  # fmt: skip
    page = page_of(tmp_path)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", page)
    tags = Words(page).tags
    assert [tag for tag, _ in tags].count("script") == 2
    assert not [tag for tag, _ in tags if tag in ("img", "i", "iframe", "object")]
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on") or name == "style"]
    facts = facts_of(page)
    assert "</script><script>alert(1)</script>" in facts["lines"][facts["texts"][facts["cells"][0]["t"][1]][0]]
    assert "\\u202eevil\\x1b[2J\\u2028x" in " ".join(facts["lines"])
    assert facts["boards"][0][2] == "b%3Ci%3E%26%27%22%E2%80%AE"


def test_nothing_in_json_ends_the_element_it_stands_in():
    text = script_json({"</script>": "<!-- <script> \u2028"})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"</script>": "<!-- <script> \u2028"}


def test_the_policy_allows_the_pages_own_parts_and_nothing_else(tmp_path):
    series(tmp_path)
    page = page_of(tmp_path)
    policy = next(a["content"] for tag, a in Words(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    script = page.rsplit("<script>", 1)[1].split("</script>")[0]
    style = page.split("<style>")[1].split("</style>")[0]
    for part in (script, style):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    links = [a[name] for _, a in Words(page).tags for name in ("href", "src") if a.get(name)]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)


def test_links_lead_from_the_page_to_the_results(tmp_path):
    made = tmp_path / "out" / "a b%"
    assert base_of(made, made / "report.html") == "./"
    assert base_of(made, tmp_path / "x" / "r.html") == "./../out/a%20b%25/"
    assert base_of(made, made.parent / "r.html") == "./a%20b%25/"


def test_all_parts_of_the_page_are_in_the_package():
    place = ROOT / "fabbuild" / "reporting" / "html"
    assert '"fabbuild.reporting.html" = ["templates/*"]' in (ROOT / "pyproject.toml").read_text()
    assert {path.name for path in place.iterdir() if path.suffix != ".py"} - {"__pycache__"} == {"templates"}
    assert all(path.is_file() for path in (place / "templates").iterdir())
