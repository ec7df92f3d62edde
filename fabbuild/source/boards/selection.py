r"""Select boards by terms, as buildman's users write them.

Terms are separated by spaces or commas, and a board that any of them matches is selected; ``a & b`` (with or
without spaces) is one term, for the boards that both match. A term is a regular expression that is matched at the
start of a board's target, arch, cpu, board, vendor, soc or config name: ``arm`` matches all boards of arch arm, and
those of arch aarch64 too, by their cpu ``armv8``. Excluded boards are left out whatever else matches them. A comma
after a backslash is a part of a term or name, as in ``e\,f``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from fabbuild.errors import SelectionError
from fabbuild.model import Board
from fabbuild.protocol.uboot import DEFCONFIG, TREE

Terms = str | Sequence[str]

#: Least similarity, of 1, of a word and a name that is suggested for it (`difflib.get_close_matches`).
LIKE = 0.7

#: Texts after the number of all boards if none is selected: which boards these are; the command that lists them.
LISTED = "; `boards` lists them"

_Term = tuple[re.Pattern[str], ...]


def select_boards(
    boards: Iterable[Board], terms: Terms = "", exclude: Terms = "", only: Terms = "", *, listed: str = LISTED
) -> list[Board]:
    """Return the selected boards, sorted by target.

    Args:
        boards: the boards to select from.
        terms: as described at the top of this module; no term selects every board.
        exclude: terms of boards to leave out.
        only: exact names of boards or of their defconfigs, by spaces or commas; other boards are left out.
        listed: see `LISTED`.

    Raises:
        SelectionError: a term is not a regular expression, a name in ``only`` is no board, or no board is selected.
    """
    known = sorted(boards, key=lambda board: board.target)
    wanted = parse_terms(terms)
    unwanted = {board.target for board in excluded_boards(known, exclude)}
    targets = {board.target for board in known}
    names = [name if name in targets else _of_defconfig(name, targets) for name in _words(only)]
    unknown = [name for name in names if name not in targets]
    if unknown:
        raise SelectionError(_no_such(unknown, targets))
    taken = [
        board
        for board in known
        if (not names or board.target in names)
        and (not wanted or any(_takes(term, board) for term in wanted))
        and board.target not in unwanted
    ]
    if not taken:
        raise SelectionError(_nothing(known, _text(terms), _text(exclude), " ".join(names), listed))
    return taken


def excluded_boards(boards: Iterable[Board], exclude: Terms) -> list[Board]:
    """Return the boards that any of these terms matches.

    Raises:
        SelectionError: a term is not a regular expression.
    """
    unwanted = parse_terms(exclude)
    return [board for board in boards if any(_takes(term, board) for term in unwanted)]


def unmatched_terms(boards: Iterable[Board], terms: Terms) -> list[str]:
    """Return the terms that match no board, such as mistyped ones.

    Raises:
        SelectionError: a term is not a regular expression.
    """
    known = list(boards)
    return [
        " & ".join(part.pattern for part in term)
        for term in parse_terms(terms)
        if not any(_takes(term, board) for board in known)
    ]


def parse_terms(terms: Terms) -> list[_Term]:
    """Parse terms: a list of alternatives, each a tuple of expressions that must all match.

    Raises:
        SelectionError: an expression is not valid, or an ``&`` lacks one of its sides.
    """
    found: list[list[re.Pattern[str]]] = []
    joined = True  # an & before the first term is as wrong as one after another &
    pending = False
    for word in re.findall(r"&|(?:\\,|[^\s,&])+", _text(terms)):
        if word == "&":
            if joined:
                raise SelectionError(f"'&' needs a term on both sides: {_text(terms)!r}")
            joined = pending = True
            continue
        try:
            pattern = re.compile(word)
        except (re.error, RecursionError, OverflowError) as exc:
            raise SelectionError(f"board term {word!r} is not a regular expression: {exc}") from exc
        if pending:
            found[-1].append(pattern)
        else:
            found.append([pattern])
        joined = pending = False
    if pending:
        raise SelectionError(f"'&' needs a term on both sides: {_text(terms)!r}")
    return [tuple(term) for term in found]


def _takes(term: _Term, board: Board) -> bool:
    fields = (board.target, board.arch, board.cpu, board.board, board.vendor, board.soc, board.config)
    return all(any(pattern.match(field) for field in fields) for pattern in term)


def _text(terms: Terms) -> str:
    return terms if isinstance(terms, str) else " ".join(terms)


def _words(names: Terms) -> list[str]:
    return [word.replace("\\,", ",") for word in re.findall(r"(?:\\,|[^\s,])+", _text(names))]


def quoted(name: str) -> str:
    """Return a board's name as an option takes it, in which commas separate names."""
    return name.replace(",", "\\,")


def _of_defconfig(name: str, targets: Iterable[str]) -> str:
    """Return the board with this name or path of a defconfig; the name itself if there is no such board."""
    board = _plain(name)
    return board if board in targets else name


def _plain(name: str) -> str:
    """Return the board's name from the name or path of a defconfig; any other text unchanged."""
    return name.removeprefix(TREE.boards + "/").removesuffix(DEFCONFIG)


def _no_such(unknown: Sequence[str], targets: Iterable[str]) -> str:
    parts = []
    ordered = sorted(targets)
    for name in unknown:
        near = difflib.get_close_matches(_plain(name), ordered, n=3, cutoff=LIKE)
        near = near or [target for target in ordered if name in target.split(",")]
        parts.append(f"{name} (did you mean {' or '.join(map(quoted, near[:3]))}?)" if near else name)
    return f"no such board: {', '.join(parts)}"


def _nothing(known: Sequence[Board], terms: str, exclude: str, only: str, listed: str) -> str:
    if not known:
        return "the tree has no boards"
    chosen = "; ".join(
        text
        for text in (
            f"--boards {terms!r}" if terms.strip(" ,") else "",
            f"--only {only!r}" if only else "",
            f"--exclude {exclude!r}" if exclude.strip(" ,") else "",
        )
        if text
    )
    names: set[str] = set()
    for board in known:
        names.update((board.target, board.arch, board.cpu, board.board, board.vendor, board.soc, board.config))
    words = dict.fromkeys(_words(terms.replace("&", " ")))
    # A word that matches boards by itself is no typing mistake.
    missing = [word for word in words if not any(re.match(word, name) for name in names)]
    near: list[str] = []
    for word in missing:
        # Swapped letters are nearer than a longer name, however much of it is the same.
        swapped = sorted(name for name in names if sorted(name) == sorted(word))
        near += swapped or difflib.get_close_matches(word, sorted(names - {""}), n=2, cutoff=LIKE)
    which, _, hint = listed.partition("; ")
    text = f"{chosen} takes none of the {len(known)} boards{which}"
    if missing and len(words) > 1:
        text += f": {', '.join(map(repr, missing))} {'matches' if len(missing) == 1 else 'match'} nothing"
    return text + (f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else f"; {hint}")
