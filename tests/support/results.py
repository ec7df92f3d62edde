"""Write result trees by hand, quickly and exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from fabbuild.reporting.summary.changes import CommitChanges, Summary, SummaryScope
from fabbuild.reporting.summary.reader import open_range
from fabbuild.reporting.summary.summarizer import summarize

#: What a board's result holds: file name → what is in it. ``done`` is 0 unless it is said; None leaves a file out.
Files = Mapping[str, "str | bytes | None"]


def write_results(output: Path, boards: Mapping[int, Mapping[str, Files]], name: str = "series") -> Path:
    """Write results as both programs lay them out: commit number → board → files; gives the range's directory."""
    root = output / name
    for number, those in boards.items():
        place = root / commit_name(number) if number else root
        place.mkdir(parents=True, exist_ok=True)
        for board, files in those.items():
            (place / board).mkdir()
            for file, content in {"done": "0\n", **files}.items():
                if content is not None:
                    data = content.encode() if isinstance(content, str) else content
                    (place / board / file).write_bytes(data)
    return root


def commit_name(number: int, subject: str = "") -> str:
    """Name a commit's directory; its hash is its number, forty times."""
    subject = subject or f"net: Change number {number}"
    return f"{number:02}_g{commit_hash(number)}_{re.sub('[/: ]', '-', subject[:20])}"


def commit_hash(number: int) -> str:
    """Give a hash that begins with the number."""
    return f"{number:02x}" * 20


def fails(*lines: str) -> Files:
    """Give a failed result that said these lines."""
    return {"done": "2\n", "err": "".join(f"{line}\n" for line in lines)}


def warns(*lines: str) -> Files:
    """Give a result that was built and said these lines."""
    return {"err": "".join(f"{line}\n" for line in lines)}


def flaky(failure: str = "a.c:1:1: error: once", machine: str = "m1") -> Files:
    """Give a result that was built after a failure on a machine that did not come again."""
    return {"built-from": json.dumps({"machine": machine, "after": [f"flaky failure on {machine}: {failure}"]})}


def told(output: Path, **wanted: object) -> Summary:
    """Give the summary of what was written last."""
    return summarize(open_range(output, ""), SummaryScope(**wanted))


def commits(output: Path, **wanted: object) -> dict[int, CommitChanges]:
    """Give what each commit changed, by its number."""
    return {commit.number: commit for commit in told(output, **wanted).commits}


def size_line(text: int, data: int = 100, bss: int = 50, rodata: int = 0, program: str = "u-boot") -> str:
    """Give a line of a ``sizes`` file."""
    whole = text + data + bss
    return f"   {text}\t    {data}\t     {bss}\t   {whole}\t    {whole:x}\t{program}\t{rodata:08x}\n"
