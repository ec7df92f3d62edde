"""Write and read what the mails of a series said, beside its results, so that a reply can be written later.

``.fabbuild/patches.json`` has ``subject`` and ``version`` of the series; ``base``, the commit that it was applied
on; ``named``, what named that commit (``--onto``, ``base-commit`` or ``HEAD``); ``cover``, the mail of the cover
letter, or null; and ``patches``, in their order, each with its ``commit`` and its ``mail``. A mail has, as decoded
text, ``message_id``, ``subject`` with its ``[PATCH …]``, ``author``, ``to``, ``cc``, ``reply_to`` and ``date``, and
``references``, a list.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabbuild.files import whole_file
from fabbuild.source.patches.apply import Applied
from fabbuild.source.patches.mails import Mail

#: The name of the file, in the directory of fabbuild's own files.
NAME = "patches.json"

_HEADERS = tuple(field.name for field in dataclasses.fields(Mail) if field.name != "raw")


@dataclass(frozen=True)
class Record:
    """What is known of a series whose results are in a directory; the mails are without their text."""

    subject: str
    version: int
    base: str
    named: str
    cover: Mail | None
    patches: Mapping[str, Mail]

    @property
    def first(self) -> Mail:
        """The mail that a reply to the whole series answers: the cover letter, else the first patch."""
        return self.cover or next(iter(self.patches.values()))


def write(own: Path, applied: Applied) -> None:
    """Write the record of a series to the directory of fabbuild's own files.

    Raises:
        OSError: it cannot be written.
    """
    series = applied.series
    base, *commits = applied.commits
    record = {
        "subject": series.subject,
        "version": series.version,
        "base": base.hash,
        "named": applied.named,
        "cover": _headers(series.cover.mail) if series.cover else None,
        "patches": [
            {"commit": commit.hash, "mail": _headers(posted.mail)}
            for commit, posted in zip(commits, series.patches, strict=True)
        ],
    }
    with whole_file(own / NAME) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")


def read(own: Path) -> Record | None:
    """Return the record in the directory of fabbuild's own files; None if it has none that can be read."""
    try:
        record = json.loads((own / NAME).read_bytes())
        return Record(
            str(record["subject"]),
            int(record["version"]),
            str(record["base"]),
            str(record["named"]),
            _mail(record["cover"]) if record["cover"] else None,
            {str(one["commit"]): _mail(one["mail"]) for one in record["patches"]},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _headers(mail: Mail) -> dict[str, Any]:
    return {name: getattr(mail, name) for name in _HEADERS}


def _mail(headers: Mapping[str, Any]) -> Mail:
    texts = {name: str(headers[name]) for name in _HEADERS if name != "references"}
    return Mail(b"", **texts, references=tuple(map(str, headers["references"])))
