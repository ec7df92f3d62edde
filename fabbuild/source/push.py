"""Push a commit to a machine's repository, sending only the objects that it lacks.

On the machine ``refs/fabbuild/current`` names the commit of the last push, so that the next push can leave out its
objects. Machines that lack the same objects share one pack (`fabbuild.source.receive_pack`). Where that is not
possible, ``git push`` makes a pack for the one machine, without the objects that have arrived already. A snapshot
of the current source has no parent, so git would not see how little differs from the snapshot before: a *carrier*
commit, which has both as its parents, connects them (`fabbuild.source.pack_cache.carrier`). ``git push`` sends the
carrier under a ref of its own, which is removed after the push.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fabbuild.errors import PushError
from fabbuild.protocol.names import CURRENT, REFS
from fabbuild.source.git import Git, GitError, GitOutput, Remote, last_words
from fabbuild.source.pack_cache import PackCache, carrier
from fabbuild.source.receive_pack import NotThisWayError, send_pack

_LOG = logging.getLogger(__name__)

#: Settings of git for a machine that is reached without a network: writing a bigger pack takes a third of the time.
NEAR = ("pack.window=0", "pack.compression=1")

_CARRIER = REFS + "carrier"

_UNITS = {"bytes": 1, "byte": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class PushReport:
    """The objects and bytes that a push sent.

    Attributes:
        objects: the number of git objects.
        bytes: the size of their packs; with ``git push`` the size that it prints, rounded to three digits.
        seconds: the duration of the push.
        pruned: the number of fabbuild's old refs that were removed on the machine.
    """

    objects: int
    bytes: int
    seconds: float
    pruned: int = 0


def push(
    git: Git, remote: Remote, tip: str, packs: PackCache, *, timeout: float, one_pack: bool = True
) -> PushReport:
    """Set ``refs/fabbuild/current`` of a remote to the commit ``tip``, and remove fabbuild's other refs there.

    The old commit keeps its ref until the new one has arrived. No hook runs here, nothing is signed, and neither
    tags nor submodules are sent.

    Args:
        git: the local repository.
        remote: the far repository.
        tip: hash of a commit of the local repository.
        packs: the packs that machines share.
        timeout: time limit of the push in seconds.
        one_pack: share packs; otherwise ``git push`` makes one for each machine.

    Raises:
        PushError: the push failed; the message is git's own, in one line.
    """
    started = time.monotonic()
    deadline = started + timeout
    if one_pack:
        try:
            sent_pack = send_pack(git, packs, remote, tip, deadline)
        except NotThisWayError as exc:
            if time.monotonic() >= deadline:
                raise PushError(remote.name, f"the push took more than {timeout:g} s and was ended") from exc
            _LOG.debug("%s: a push of its own: %s", remote.name, exc)
        else:
            if sent_pack.kept:
                _LOG.warning("%s: old refs were not removed: %s", remote.name, "; ".join(sent_pack.kept))
            return PushReport(sent_pack.objects, sent_pack.bytes, time.monotonic() - started, sent_pack.pruned)
    left = _left(deadline)
    with packs.making:
        return _push_alone(git, remote, tip, started, time.monotonic() + left)


def _push_alone(git: Git, remote: Remote, tip: str, started: float, deadline: float) -> PushReport:
    """Push with ``git push``, without a shared pack."""
    try:
        far = _refs(git, remote, deadline)
        stale = [ref for ref in far if ref != CURRENT]
        old = far.get(CURRENT, "")
        objects = size = 0
        if old != tip:
            specs = [f"+{tip}:{CURRENT}"]
            tie = carrier(git, old, tip)
            if tie:
                specs.append(f"+{tie}:{_CARRIER}")
                stale = list(dict.fromkeys([*stale, _CARRIER]))
            objects, size = _send(git, remote, specs, deadline)
    except GitError as exc:
        raise PushError(remote.name, str(exc)) from exc
    try:
        if stale:
            # git 2.39's receive-pack crashes when a shallow clone pushes nothing but deletions.
            plain = remote._replace(env={**remote.env, "GIT_SHALLOW_FILE": ""}, config=())
            _send(git, plain, [f":{ref}" for ref in stale], deadline)
    except GitError as exc:
        # The commit has arrived; the next push removes the refs that this one could not remove.
        _LOG.warning("%s: old refs were not removed: %s", remote.name, exc)
        stale = []
    return PushReport(objects, size, time.monotonic() - started, len([ref for ref in stale if ref in far]))


def _refs(git: Git, remote: Remote, deadline: float) -> Mapping[str, str]:
    options = [f"--upload-pack={remote.command('upload-pack')}"] if remote.command else []
    out = git.run(
        "ls-remote", "--refs", *options, "--", remote.url, REFS + "*", env=remote.env, timeout=_left(deadline)
    ).text
    pairs = (line.split("\t", 1) for line in out.splitlines() if "\t" in line)
    return {ref: name for name, ref in pairs if ref.startswith(REFS)}


def _send(git: Git, remote: Remote, specs: Sequence[str], deadline: float) -> tuple[int, int]:
    """Run ``git push`` and return the number of objects that it sent and their bytes."""
    options = ["--porcelain", "--progress", "--no-verify", "--no-signed", "--no-follow-tags"]
    if remote.command:
        options.append(f"--receive-pack={remote.command('receive-pack')}")
    out = git.run(
        "push", *options, "--recurse-submodules=no", "--", remote.url, *specs,
        env=remote.env, timeout=_left(deadline), ok=range(-64, 256), config=remote.config,
    )  # fmt: skip
    if out.status:
        raise GitError(f"git push: {_reason(out)}", out.status, out.stderr)
    return _sent(out.stderr)


def _reason(out: GitOutput) -> str:
    refused = [line.split("\t") for line in out.stdout.decode("utf-8", "replace").splitlines()]
    summaries = [fields[2] for fields in refused if fields[0] == "!" and len(fields) > 2]
    words = list(dict.fromkeys(summaries[:1]))
    said = last_words(out.stderr)
    if said and not (words and "failed to push some refs" in said):
        words.append(said)
    return "; ".join(words) or f"exit status {out.status}"


def _sent(progress: str) -> tuple[int, int]:
    total = re.findall(r"^Total (\d+) ", progress, re.MULTILINE)
    sizes = re.findall(r"Writing objects: 100% \(\d+/\d+\), ([\d.]+) (bytes?|[KMG]iB)", progress)
    size = float(sizes[-1][0]) * _UNITS[sizes[-1][1]] if sizes else 0
    return (int(total[-1]) if total else 0), int(size)


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.1)
