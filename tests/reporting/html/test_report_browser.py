"""The report in a real browser: nothing is complained of, and the matrix does what it is there for."""

import json
import shlex

import pytest

from fabbuild.reporting.html.report import write_report
from fabbuild.reporting.summary.find import find
from fabbuild.source.boards.selection import quoted
from tests.support.manyresults import ManyResults
from tests.support.results import fails, write_results

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of 60 boards at 8 commits, of which half warn."""
    output = tmp_path_factory.mktemp("report")
    many = ManyResults(60, 8, worst=0.5)
    root = many.write(output, machines=2, slots=2)
    return write_report(find(output=str(output)), root / "report.html").path


@pytest.fixture
def page(browser, report):
    """The report, just opened; the console has nothing to say of it to the end."""
    browser.open(report)
    browser.run("sessionStorage.clear()")
    browser.open(report)
    browser.complaints()
    yield browser
    assert browser.complaints() == []


def shown(browser):
    """Give the boards of the matrix that are drawn."""
    return browser.run(
        "return [...document.querySelectorAll('#grid tbody th[scope=row]')].map(one => one.innerText)"
    )


def facts(browser):
    return json.loads(browser.run("return document.getElementById('facts').textContent"))


def test_only_what_changed_is_shown_until_more_is_asked_for(page):
    known = facts(page)
    changed = {name[0] for name, row in zip(known["boards"], known["cells"], strict=True) if set(row["c"]) != {"."}}
    assert 0 < len(changed) < 60
    assert page.text("#f-count").startswith(f"{len(changed)} of 60 boards")
    assert set(shown(page)) <= changed
    page.click("#f-show option[value=all]")
    assert page.text("#f-count") == "60 of 60 boards"
    page.click("#f-show option[value=failing]")
    failing = {name[0] for name, row in zip(known["boards"], known["cells"], strict=True) if row["v"][-1] == "f"}
    assert set(shown(page)) == failing


def test_a_search_takes_all_of_its_words(page):
    page.click("#f-show option[value=all]")
    page.type("#f-text", "KESTREL arm")
    boards = shown(page)
    assert boards
    assert all("kestrel" in name and "arm" in name for name in boards)
    page.type("#f-text", " nothing")
    assert page.text("#f-count") == "0 of 60 boards"
    assert page.text("#grid tbody") == "No board is so."
    page.click("#filter button[type=reset]")
    assert "(those that changed)" in page.text("#f-count")


def test_a_click_opens_the_error_with_its_log_machine_and_sizes(page):
    page.run("document.querySelector('#box').scrollIntoView()")
    page.click("#grid td.v-f.ch")
    text = page.text("#details")
    for words in (
        "failed breaks here; return code 2",
        "has no member named",
        "Again",
        "inv build --only",
        "End of the log",
    ):
        assert words in text, words
    assert page.run("return document.querySelector('#details a[href]').href.endsWith('/err')")
    page.press("Escape")
    assert page.run("return document.querySelector('#details').open") is False
    page.click("#grid td.v-b")
    assert "u-boot" in page.text("#details table")
    page.press("Escape")


def test_the_command_for_a_board_with_a_comma_in_its_name_names_that_board(browser, tmp_path):
    root = write_results(tmp_path, {1: {"e,f": {}}, 2: {"e,f": fails("a.c:1:1: error: x")}})
    browser.open(write_report(find(output=str(tmp_path)), root / "report.html").path)
    browser.click("#grid td.v-f.ch")
    command = browser.text("#details code")
    browser.press("Escape")
    assert shlex.split(command)[3] == quoted("e,f")


def test_all_of_it_goes_by_the_keyboard(page):
    def here():
        return page.run("const at = document.activeElement.dataset; return [at.at, at.column]")

    page.run("document.querySelector('#grid td[tabindex=\"0\"]').focus()")
    assert here() == ["1", "0"]
    page.press("Right", "Right", "Down")
    assert here() == ["2", "2"]
    page.press("Control+End")
    rows = page.run("return Number(document.querySelector('#grid').getAttribute('aria-rowcount'))")
    assert here() == [str(rows - 2), "7"]
    name = page.run("return document.activeElement.parentElement.querySelector('th').innerText")
    page.press("Enter")
    assert page.text("#d-title").startswith(f"{name} at 08 ")
    page.press("Escape")
    assert here() == [str(rows - 2), "7"]
    page.press("Control+Home", "Up", "Left")
    assert here() == ["1", "0"]


def test_an_error_shows_its_boards_in_the_matrix_and_the_timeline_a_board(page):
    problem = page.run(
        "const one = document.querySelector('.s-broke button[data-problem]'); one.click(); return one.dataset.problem"
    )
    known = facts(page)
    those = {known["boards"][n][0] for n in known["sets"][known["problems"][int(problem)][5]]}
    assert set(shown(page)) == those
    name = page.run(
        "const bar = document.querySelector('#timeline rect[data-board]');"
        "bar.dispatchEvent(new MouseEvent('click', {bubbles: true})); return bar.dataset.board"
    )
    assert page.text("#d-title").startswith(name)


def test_what_a_hostile_commit_says_is_shown_and_does_nothing(browser, tmp_path):
    evil = "x.c:1:2: error: </script><script>hit=1</script><img src=x onerror=hit=2>\u202e"
    board = "<img src=x onerror=hit=3>"
    write_results(tmp_path, {1: {board: {}}, 2: {board: fails(evil)}})
    browser.open(write_report(find(output=str(tmp_path))).path)
    assert shown(browser) == [board]
    browser.click("#grid td.v-f")
    text = browser.text("#details")
    assert board in text
    assert evil.replace("\u202e", "\\u202e") in text
    assert browser.run("return [typeof hit, document.images.length]") == ["undefined", 0]
    assert browser.complaints() == []


def test_it_is_dark_where_that_is_preferred_and_whole_on_paper(page):
    def light():
        colour = page.run("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour[4:-1].split(","))) > 600

    page.prefer("dark")
    assert not light()
    page.prefer("light")
    assert light()
    assert page.print().startswith(b"%PDF")
    page.click("#f-show option[value=all]")
    counted = page.run(
        "const rows = () => document.querySelectorAll('#grid tbody tr').length;"
        "dispatchEvent(new Event('beforeprint')); const all = [rows(), document.querySelectorAll('details:not([open])').length];"
        "dispatchEvent(new Event('afterprint')); return [...all, rows()]"
    )
    assert counted[0] > 60
    assert counted[1] == 0
    assert counted[2] < counted[0]


def test_without_scripts_there_is_a_table_in_place_of_the_matrix(browser, report):
    browser.without_scripts()
    try:
        browser.open(report)
        assert browser.text("#verdict").startswith("Breaks ")
        assert browser.text("noscript table").startswith("Boards that changed")
    finally:
        browser.without_scripts(False)
