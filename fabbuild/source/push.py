"""Bringing a commit to a machine's repository, and no more than what it lacks.

On the far side ``refs/fabbuild/current`` names what was brought last; it is what the next push is told from.
Machines that lack the same are given the same pack (`fabbuild.source.receive_pack`). Where that cannot be, for
whatever
reason, ``git push`` makes one of its own; what has arrived already it does not send again. A snapshot has no
parent, so git would not see that it is nearly the one before: for those a *carrier* goes along
(`fabbuild.source.pack_cache.carrier`), with ``git push`` under a ref of its own that is removed when it has
arrived.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fabbuild.errors import PushError
from fabbuild.protocol.names import CURRENT, REFS
from fabbuild.source.git import Git, GitError, Output, last_words
from fabbuild.source.pack_cache import Packs, carrier
from fabbuild.source.receive_pack import NotThisWayError, hand_over

_LOG = logging.getLogger(__name__)

#: For a machine that no network is in front of: to write a bigger pack takes a third of the time.
NEAR = ("pack.window=0", "pack.compression=1")

_CARRIER = REFS + "carrier"

_UNITS = {"bytes": 1, "byte": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class PushReport:
    """What a push sent.

    Attributes:
        objects: git objects that travelled.
        bytes: size of the packs that held them (of ``git push`` as it tells it: to three digits from a KiB on).
        seconds: how long all of it took.
        pruned: old refs of ours that were removed there.
    """

    objects: int
    bytes: int
    seconds: float
    pruned: int = 0


def push(
    git: Git,
    url: str,
    env: Mapping[str, str],
    tip: str,
    *,
    timeout: float,
    machine: str,
    there: Callable[[str], str] | None = None,
    config: Sequence[str] = (),
    packs: Packs,
    one_pack: bool = True,
) -> PushReport:
    """Make ``refs/fabbuild/current`` at ``url`` the commit ``tip``, and remove all other refs of ours there.

    Until the new commit has arrived the old one keeps its ref. No hook runs here, nothing is signed, no tag and no
    submodule goes along.

    Args:
        git: the local repository.
        url: the far one, as `Transport.git_remote` gives it.
        env: variables for git, as `Transport.git_remote` gives them.
        tip: hash of a commit that is here.
        timeout: seconds for all of it.
        machine: its name, for the error.
        there: gives shell words for git's ``receive-pack`` or ``upload-pack`` there; git adds the path.
        config: ``name=value`` settings of git for what is sent.
        packs: those that machines share.
        one_pack: whether they do; else ``git push`` makes one for each.

    Raises:
        PushError: with git's own words, in one line.
    """
    started = time.monotonic()
    deadline = started + timeout
    if one_pack:
        try:
            handed = hand_over(
                git, packs, url, env, tip, ref=CURRENT, ours=REFS, deadline=deadline, there=there, config=config
            )
        except NotThisWayError as exc:
            if time.monotonic() >= deadline:
                raise PushError(machine, f"the push took more than {timeout:g} s and was ended") from exc
            _LOG.debug("%s: a push of its own: %s", machine, exc)
        else:
            if handed.kept:
                _LOG.warning("%s: old refs were not removed: %s", machine, "; ".join(handed.kept))
            return PushReport(handed.objects, handed.bytes, time.monotonic() - started, handed.pruned)
    left = _left(deadline)
    with packs.making:
        return _push(git, url, env, tip, started, time.monotonic() + left, machine, there, config)


def _push(
    git: Git,
    url: str,
    env: Mapping[str, str],
    tip: str,
    started: float,
    deadline: float,
    machine: str,
    there: Callable[[str], str] | None,
    config: Sequence[str],
) -> PushReport:
    """Do it by ``git push`` alone."""
    try:
        far = _refs(git, url, env, deadline, there)
        stale = [ref for ref in far if ref != CURRENT]
        old = far.get(CURRENT, "")
        objects = size = 0
        if old != tip:
            specs = [f"+{tip}:{CURRENT}"]
            tie = carrier(git, old, tip)
            if tie:
                specs.append(f"+{tie}:{_CARRIER}")
                stale = list(dict.fromkeys([*stale, _CARRIER]))
            objects, size = _send(git, url, env, specs, deadline, there, config)
    except GitError as exc:
        raise PushError(machine, str(exc)) from exc
    try:
        if stale:
            # git 2.39's receive-pack crashes when a shallow clone pushes nothing but deletions.
            plain = {**env, "GIT_SHALLOW_FILE": ""}
            _send(git, url, plain, [f":{ref}" for ref in stale], deadline, there)
    except GitError as exc:
        # What is to be built has arrived; the next push removes what this one could not.
        _LOG.warning("%s: old refs were not removed: %s", machine, exc)
        stale = []
    return PushReport(objects, size, time.monotonic() - started, len([ref for ref in stale if ref in far]))


def _refs(
    git: Git, url: str, env: Mapping[str, str], deadline: float, there: Callable[[str], str] | None
) -> dict[str, str]:
    options = [f"--upload-pack={there('upload-pack')}"] if there else []
    out = git.run("ls-remote", "--refs", *options, "--", url, REFS + "*", env=env, timeout=_left(deadline)).text
    pairs = (line.split("\t", 1) for line in out.splitlines() if "\t" in line)
    return {ref: name for name, ref in pairs if ref.startswith(REFS)}


def _send(
    git: Git,
    url: str,
    env: Mapping[str, str],
    specs: Sequence[str],
    deadline: float,
    there: Callable[[str], str] | None,
    config: Sequence[str] = (),
) -> tuple[int, int]:
    options = ["--porcelain", "--progress", "--no-verify", "--no-signed", "--no-follow-tags"]
    if there:
        options.append(f"--receive-pack={there('receive-pack')}")
    out = git.run(
        "push", *options, "--recurse-submodules=no", "--", url, *specs,
        env=env, timeout=_left(deadline), ok=range(-64, 256), config=config,
    )  # fmt: skip
    if out.status:
        raise GitError(f"git push: {_reason(out)}", out.status, out.stderr)
    return _sent(out.stderr)


def _reason(out: Output) -> str:
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
