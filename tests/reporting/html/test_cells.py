"""What is kept of each result."""

from fabbuild.reporting.html.cells import Texts, cost


def test_there_is_an_end_to_what_is_kept_of_texts():
    texts = Texts(room=100_000)
    for number in range(2500):
        telling = f"drivers/d{number}.c:1:2: error: number {number}"
        kept = texts.text("\n".join([*(f"line {number} {at} <<<<" for at in range(70)), telling]))
    assert sum(map(cost, texts.lines)) < 210_000
    assert [texts.lines[n] for n in texts.texts[kept]] == ["(see err)"]
    first = [texts.lines[n] for n in texts.texts[1]]
    assert first[40] == "… (11 more lines: see err) …"
    assert first[-1].endswith("number 0")
    assert "drivers/d500.c:1:2: error: number 500" in texts.lines


def test_a_text_is_kept_once():
    texts = Texts()
    assert texts.text("a\nb\n") == texts.text("a \n\nb") == 1
    assert texts.text(" \n") == 0
    assert texts.lines == ["", "a", "b"]
