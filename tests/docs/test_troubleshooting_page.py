"""docs/troubleshooting.md: what it quotes is what the code says, and what the code says of machines is in it."""

import ast
import re

import pytest

from fabbuild import errors
from fabbuild.machines import probe
from fabbuild.machines.messages import Facts
from fabbuild.scheduler.fault_patterns import FaultKind
from tests.support.docs import page, section
from tests.support.farm import ROOT

NAME = "troubleshooting.md"
QUOTED = [line for block in re.findall(r"```text\n(.*?)```", page(NAME), re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def words():
    """Give every text in the code."""
    found = []
    for path in (ROOT / "fabbuild").rglob("*.py"):
        if "sample" not in path.parts:
            tree = ast.parse(path.read_text())
            found += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(found)


def test_every_quoted_message_is_in_the_code(words):
    gone = []
    for line in QUOTED:
        parts = [part for part in re.split("…", line) if len(part.strip(" :;,.()`")) > 3]
        assert parts, f"docs/{NAME} quotes nothing in {line!r}"
        gone += [(part, line) for part in parts if part.strip() not in words]
    assert not gone, f"docs/{NAME} quotes what fabbuild does not say (any more): {gone}"


def quotes(text):
    """Tell whether a line of the page quotes this message."""
    return any(re.fullmatch(".*".join(re.escape(part) for part in line.split("…")), text) for line in QUOTED)


def test_every_reason_not_to_use_a_machine_is_quoted():
    poor = Facts("m", "x86_64", 2, "/w", load_avg=9.0, writable=False, noexec=True, owner="ada")
    reasons = probe.unfit_because(poor, probe.Fit())
    assert len(reasons) >= 9, reasons
    lacking = [reason for reason in reasons if not quotes(reason)]
    assert not lacking, f"docs/{NAME}: quote these under `It is not fit`: {lacking}"


def test_every_kind_of_fault_is_in_it():
    table = section(NAME, "A machine's fault or the board's?")
    assert [kind.value for kind in FaultKind if f"| `{kind.value}` |" not in table] == []


def raised(*kinds):
    """Give the longest text of each place that raises one of these errors, where a login or a host key goes wrong."""
    for name in ("host_keys.py", "ssh_login.py"):
        for call in ast.walk(ast.parse((ROOT / "fabbuild" / "machines" / "transport" / name).read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in kinds:
                texts = [
                    n.value for n in ast.walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                ]
                yield max(texts, key=len, default="")


def test_every_trouble_with_a_login_or_a_host_key_is_quoted():
    texts = [text for text in raised(errors.ConnectError.__name__, errors.HostKeyError.__name__) if text]
    assert len(texts) >= 12, texts
    lacking = [text for text in texts if text.strip() not in page(NAME)]
    assert not lacking, f"docs/{NAME}: quote these under `A machine is not reached`: {lacking}"
