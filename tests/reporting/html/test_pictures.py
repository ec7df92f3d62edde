"""The layout of the pictures."""

from fabbuild.reporting.html.journal_facts import read_journal
from fabbuild.reporting.html.pictures import run_picture
from tests.support.events import begins, comes, done, happened, ready, start


def test_what_is_too_narrow_to_be_seen_is_drawn_once():
    lines = [start(0, "m1"), ready(0, "m1")]
    for at in range(5000):
        lines += [begins(at, "m1", f"b{at}"), comes(at + 1, "m1", f"b{at}", "failed" if at == 7 else "built"),
                  done(at + 1, "m1", f"b{at}")]  # fmt: skip
    picture = run_picture(read_journal(happened(*lines)).run, None)
    assert len(picture.bars) < 1100
    assert [bar.kind for bar in picture.bars].count("failed") == 1
    assert all(0 <= bar.x <= 100 and bar.x + bar.width <= 100.2 for bar in picture.bars)
