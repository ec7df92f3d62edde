"""Run an sshd in a network namespace of its own, behind a cable that a test can cut."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.support.sshd import make_sshd

#: One for each process of a run that is split among several; nobody routes these (RFC 2544).
_NETWORK = f"198.18.{60 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw17')[2:]) % 20}."


def _ip(*argv: str, check: bool = True) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *argv], check=check, capture_output=True, text=True)


class Cable:
    """What lies between this machine and the one in the namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def cut(self) -> None:
        """Nothing arrives at either end, and nobody is told."""
        _ip("-n", self.namespace, "link", "set", "far", "down")

    def deafen(self) -> None:
        """What we send arrives no more; what the machine sends still does."""
        # By its routing: a packet filter is not in every kernel.
        _ip("-n", self.namespace, "rule", "add", "prio", "0", "from", _NETWORK + "1", "blackhole")

    def mute(self) -> None:
        """What the machine sends arrives no more; what we send still does."""
        _ip("-n", self.namespace, "rule", "add", "prio", "0", "to", _NETWORK + "1", "blackhole")

    def mend(self) -> None:
        """All arrives again."""
        _ip("-n", self.namespace, "link", "set", "far", "up")
        _ip("-n", self.namespace, "rule", "del", "prio", "0", check=False)


@pytest.fixture
def far_machine(tmp_path):
    """A machine behind a cable, and the cable."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    name = f"fabbuild{os.getpid()}"
    link = f"fb{os.getpid()}"
    if _NETWORK in _ip("-o", "addr").stdout + _ip("route").stdout:
        pytest.skip(f"the network {_NETWORK}0/30 is taken here")
    made = _ip("netns", "add", name, check=False)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
    try:
        made = _ip("link", "add", link, "type", "veth", "peer", "name", "far", "netns", name, check=False)
        if made.returncode:
            pytest.skip(f"no veth pairs here: {made.stderr.strip()}")
        _ip("addr", "add", _NETWORK + "1/30", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", name, "addr", "add", _NETWORK + "2/30", "dev", "far")
        _ip("-n", name, "link", "set", "far", "up")
        # Room for a rule before the one that takes packets in.
        _ip("-n", name, "rule", "add", "prio", "1", "lookup", "local")
        _ip("-n", name, "rule", "del", "prio", "0", "lookup", "local")
        machine = make_sshd(tmp_path, "far", _NETWORK + "2", port=2222)
        machine.namespace = name
        machine.start()
        yield machine, Cable(name)
        machine.kill(everything=True)
    finally:
        _ip("link", "del", link, check=False)
        _ip("netns", "del", name, check=False)
