"""A real ssh-agent for a test: its socket, and the keys that it holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.census import wait_until


class Agent:
    """An ssh-agent of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "agent"
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(self.socket)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self.socket.exists)

    def add(self, key: Path) -> None:
        subprocess.run(
            ["ssh-add", "-q", str(key)], env={**os.environ, "SSH_AUTH_SOCK": str(self.socket)}, check=True
        )

    def add_wrong(self, number: int) -> None:
        """Add keys that no machine knows."""
        for count in range(number):
            key = self.directory / f"wrong{count}"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
            self.add(key)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def agent():
    if not shutil.which("ssh-agent"):
        pytest.skip("ssh-agent is not installed")
    directory = Path(tempfile.mkdtemp(prefix="agent"))  # a socket's path must be short
    made = Agent(directory)
    yield made
    made.end()
    shutil.rmtree(directory)
