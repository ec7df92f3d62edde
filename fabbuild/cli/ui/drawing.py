"""Draw tables with rich, which is imported only when one is drawn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fabbuild.cli.ui.output import Output, console
from fabbuild.text import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def new_table(*headings: str) -> Table:
    """Return a table without lines; ``>`` begins the heading of a right-aligned column that is not wrapped."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=any(headings), padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        number = heading.startswith(">")
        table.add_column(
            heading.lstrip(">"), justify="right" if number else "left", overflow="fold", no_wrap=number
        )
    return table


def cell(words: str, style: str = "") -> RenderableType:
    """Return a cell of a table, with control characters made visible."""
    from rich.text import Text

    return Text(visible(words), style=style)


def print_table(out: Output, table: RenderableType) -> None:
    """Print a table; without blanks at the ends of lines except on a terminal."""
    canvas = console(out)
    with canvas.capture() as captured:
        canvas.print(table)
    lines = captured.get()
    out.write(lines if out.isatty() else re.sub(r" +$", "", lines, flags=re.MULTILINE))
    out.flush()
