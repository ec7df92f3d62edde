import pytest

from tests.support.repositories import kbuild_tree


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Nobody's own settings of git take part."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return place


@pytest.fixture
def repo(tmp_path):
    """A Kbuild tree: see `kbuild_tree`."""
    return kbuild_tree(tmp_path / "tree")
