"""Fixtures of the tests of machines.yaml."""

import pytest

from fabbuild.config.machines_file import load_machines


@pytest.fixture
def load(tmp_path):
    """Write a file and load it."""

    def write(text):
        path = tmp_path / "machines.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_machines(path)

    return write
