"""All tests are collected, whatever the folders are called that they are in."""

import fnmatch
from pathlib import Path

TESTS = Path(__file__).parent


def test_no_folder_with_tests_is_left_out_because_of_its_name(request):
    """pytest's own list leaves out folders called build, dist or venv."""
    left_out = request.config.getini("norecursedirs")
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert Path("worker/build") in folders
    found = {
        str(folder) for folder in folders for part in folder.parts for one in left_out if fnmatch.fnmatch(part, one)
    }
    assert found == set()
