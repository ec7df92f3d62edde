"""Run the short commands that need no lock on a machine: probe, check, kill, usage, clean, unpack.

For each command the worker program is sent and run from memory, so that no file is left on the machine, and gives
one answer.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fabbuild.config.machines import Machine, ToolchainSearch
from fabbuild.errors import BusyError, SetupError
from fabbuild.machines.messages import (
    Busy,
    Checked,
    Cleaned,
    Error,
    Facts,
    Killed,
    Unpacked,
    WorkDirUsage,
    decode_response,
)
from fabbuild.machines.transport.base import Completed, Transport, pour
from fabbuild.machines.worker_zip import on_its_own_line, shell_memory, worker_program
from fabbuild.protocol.names import TOOLCHAINS
from fabbuild.text import cut, visible

#: Seconds that an answer may take if the machine has no long work to do.
ANSWER_TIMEOUT = 60.0

#: Seconds that a probe may take: it runs ``--version`` of every compiler it finds.
PROBE_TIMEOUT = 120.0

#: Seconds that a machine's check of itself may take: a handful of steps of at most 20 s each.
CHECK_TIMEOUT = 120.0

#: Seconds that measuring or removing a work directory may take.
CLEAN_TIMEOUT = 3600.0

#: Seconds in which a machine that is sent a toolchain must take some bytes, or unpack them after the last.
UNPACK_PATIENCE = 600.0

#: Identifies this process among all bosses, past ones included.
_RUN = uuid.uuid4().hex

#: Hints for exit statuses of the far side.
STATUS_HINT = {
    97: "python3 was not found there; install python3 (3.8 or newer)",
    127: "a program was not found there",
}

Expected = TypeVar("Expected")


class OneShot:
    """The short commands that can be run on a machine without its lock.

    Attributes:
        machine: the machine's entry in machines.yaml.
        name: the machine's name.
        transport: the transport to the machine.
        facts: the answer to the last `probe`; None before.
        identified: whether that probe also fingerprinted the compilers.
    """

    def __init__(self, machine: Machine, transport: Transport, search: ToolchainSearch) -> None:
        """Store the parts; nothing is contacted yet.

        Args:
            machine: the machine's entry in machines.yaml.
            transport: the transport to the machine.
            search: where to look for toolchains, besides the machine's own entry.
        """
        self.machine = machine
        self.name = machine.name
        self.transport = transport
        self.facts: Facts | None = None
        self.identified = False
        self._search = search

    @property
    def lacking(self) -> dict[str, str]:
        """Return the compilers that were named for this machine and do not exist there, by architecture."""
        if self.facts is None:
            return {}
        named = self.machine.toolchains.items()
        return {arch: compiler for arch, compiler in named if arch not in self.facts.toolchains}

    def probe(self, *, identify: bool = False) -> Facts:
        """Query the machine's properties and tools, and store them in `facts`.

        Args:
            identify: also fingerprint each compiler and everything that can change its output; this takes longer.

        Raises:
            MachineError: the machine cannot be reached, or has no python3 that the worker can run on.
        """
        self.transport.open()
        request = json.dumps(self._facts_request(identify=identify))
        self.facts = self._ask(["facts", "--json", request], Facts, timeout=PROBE_TIMEOUT)
        self.identified = identify
        return self.facts

    def check(self, archs: Iterable[str], commit: str, *, min_disk_mb: int, min_mem_mb: int) -> Checked:
        """Have the machine check itself: disk, memory, a small compilation with each toolchain, a small checkout.

        Args:
            archs: the architectures whose toolchains to check, as far as `facts` names them.
            commit: the hash of a commit that was pushed; empty: no checkout.
            min_disk_mb: least free space in the work directory, in MiB.
            min_mem_mb: least free memory, in MiB.

        Raises:
            MachineError: the machine cannot run the check.
        """
        self.transport.open()
        found = self.facts.toolchains if self.facts else {}
        request = {
            "work_dir": self.machine.work_dir,
            "toolchains": {arch: found[arch].gcc for arch in archs if arch in found},
            "commit": commit,
            "min_disk_mb": min_disk_mb,
            "min_mem_mb": min_mem_mb,
            "env": self._path_only(),
        }
        return self._ask(["check", "--json", json.dumps(request)], Checked, timeout=CHECK_TIMEOUT)

    def kill(self) -> Killed:
        """End the process groups that fabbuild started on the machine, and no others."""
        self.transport.open()
        return self._ask(["kill", "--work-dir", self.machine.work_dir, *boss_options()], Killed)

    def usage(self, *, older: float = 0.0, toolchains: bool = False) -> WorkDirUsage:
        """Measure the machine's work directory, and mark the parts that `clean` with these arguments removes."""
        self.transport.open()
        arguments = ["clean", "--look", "--work-dir", self.machine.work_dir, *_clean_options(older, toolchains)]
        return self._ask(arguments, WorkDirUsage, timeout=CLEAN_TIMEOUT)

    def clean(self, *, older: float = 0.0, toolchains: bool = False) -> Cleaned:
        """Remove the machine's work directory, or the old parts of it.

        Args:
            older: remove only parts that were not used for this many seconds; 0: all parts.
            toolchains: remove fetched toolchains, too.

        Raises:
            BusyError: another boss works in the directory.
        """
        self.transport.open()
        arguments = ["clean", "--work-dir", self.machine.work_dir, *_clean_options(older, toolchains)]
        return self._ask(arguments, Cleaned, timeout=CLEAN_TIMEOUT)

    def unpack(
        self,
        archive: Path,
        name: str,
        sha256: str,
        sent: Callable[[int], None] = lambda _bytes: None,
        *,
        into: str = TOOLCHAINS,
    ) -> Unpacked:
        """Send an archive and unpack it below the machine's work directory.

        Args:
            archive: the local file.
            name: the name of the directory on the machine; an existing directory is left unchanged.
            sha256: the digest of the file.
            sent: called with the number of bytes sent so far.
            into: what it is: ``toolchains``, or ``files`` that builds read, of which one archive stays there.

        Raises:
            MachineError: the archive cannot be unpacked there; the text has the reason.
        """
        self.transport.open()
        size = archive.stat().st_size
        arguments = ["unpack", "--work-dir", self.machine.work_dir, "--name", name]
        arguments += ["--size", str(size), "--sha256", sha256, "--into", into]
        channel = self.transport.spawn(on_its_own_line(shell_memory(arguments)))
        done = pour(self.name, channel, worker_program().data, archive, sent=sent, patience=UNPACK_PATIENCE)
        return self._answer(f"unpacking the {into}", done, Unpacked)

    def _facts_request(self, *, identify: bool) -> dict[str, Any]:
        return {
            "work_dir": self.machine.work_dir,
            "toolchains": dict(self.machine.toolchains),
            "prefixes": dict(self._search.prefixes),
            "paths": list(self._search.paths),
            "env": self._path_only(),
            **({"identify": dict(self.machine.env)} if identify else {}),
        }

    def _path_only(self) -> dict[str, str]:
        """Return the variables of the machine's ``env`` that decide which programs are found."""
        return {name: value for name, value in self.machine.env.items() if name == "PATH"}

    def _ask(self, arguments: Sequence[str], kind: type[Expected], *, timeout: float = ANSWER_TIMEOUT) -> Expected:
        """Run a subcommand of the worker program from memory and return its answer."""
        command = on_its_own_line(shell_memory(arguments))
        done = self.transport.run(command, stdin=worker_program().data, timeout=timeout)
        return self._answer(arguments[0], done, kind)

    def _answer(self, doing: str, done: Completed, kind: type[Expected]) -> Expected:
        """Find the answer of a subcommand in its output, which may begin with lines that the login printed."""
        for line in done.stdout.split(b"\n"):
            answer = decode_response(line)
            if isinstance(answer, kind):
                return answer
            if isinstance(answer, Busy):
                raise BusyError(self.name, f"BUSY: {describe_holder(answer.holder)}", answer.holder)
            if isinstance(answer, Error):
                raise SetupError(self.name, answer.msg)
        raise SetupError(self.name, self.transport.lost or describe_failure(doing, done))


def _clean_options(older: float, toolchains: bool) -> list[str]:
    return ["--older", str(older), *(["--toolchains"] if toolchains else [])]


def boss_options() -> list[str]:
    """Return the options that identify this boss to a machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    boss = ["--who", user, "--from", socket.gethostname(), "--boss-pid", str(os.getpid())]
    return [*boss, "--run", _RUN]


def describe_holder(holder: Mapping[str, Any]) -> str:
    """Describe the holder of a lock by its lock file, whose content is not trusted."""
    if not holder:
        return "held by a process that did not say who it is"
    since = holder.get("since")
    when = "?"
    with contextlib.suppress(OverflowError, ValueError, OSError):
        if isinstance(since, (int, float)):
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    who, host, pid = (holder.get(key, "?") for key in ("who", "host", "pid"))
    return f"held by {who} from {host}, pid {pid}, since {when}"


def describe_failure(doing: str, done: Completed) -> str:
    """Describe a command's failure, with its last lines of stderr and a hint for its exit status."""
    if not done.status:
        said = next((line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()), "")
        printed = f"; it printed {cut(visible(said.strip()), 200)}" if said else ""
        return f"{doing}: no answer came{printed}: does the login there run what it is given, and print nothing?"
    words = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    hint = STATUS_HINT.get(done.status, "")
    text = f"{doing} failed there (exit status {done.status})"
    if words:
        text += ": " + " | ".join(words[-2:])[:400]
    return f"{text}; {hint}" if hint and hint not in text else text
