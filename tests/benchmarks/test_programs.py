"""The programs in benchmarks/: that each of them starts."""

import subprocess
import sys

import pytest

from tests.support.farm import ROOT

PROGRAMS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_each_benchmark_finds_what_it_imports_and_prints_its_help(program, tmp_path):
    ended = subprocess.run(
        [sys.executable, program, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "usage: " in ended.stdout
