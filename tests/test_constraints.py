"""constraints.txt, which README's commands install by, names releases that pyproject.toml allows."""

import re

import pytest
from packaging.requirements import Requirement

from tests.support.farm import ROOT


def pins():
    """Give the pinned releases by name; a name has several where they differ by Python."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith(("#", " ")):
            one = Requirement(line)
            (exact,) = one.specifier
            assert exact.operator == "==", line
            found.setdefault(name_of(one), []).append(exact.version)
    return found


def name_of(requirement):
    return re.sub(r"[-_.]+", "-", requirement.name).lower()


def wanted():
    """Give what pyproject.toml asks for, fabbuild's own extras left out."""
    lists = re.findall(r"(?ms)^(?:dependencies|docs|test) = \[$(.*?)^\]$", (ROOT / "pyproject.toml").read_text())
    assert len(lists) == 3
    texts = [text for one in lists for text in re.findall(r'"([^"]+)"', one) if not text.startswith("fabbuild[")]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", wanted(), ids=name_of)
def test_what_is_asked_for_is_pinned_within_its_bounds(requirement):
    releases = pins()[name_of(requirement)]
    assert all(requirement.specifier.contains(release) for release in releases), releases


def test_only_what_others_bound_has_no_upper_bound_of_ours():
    unbounded = {
        name_of(one) for one in wanted() if not any(part.operator in ("<", "==") for part in one.specifier)
    }
    assert unbounded == {"invoke", "types-paramiko", "types-pyyaml"}
