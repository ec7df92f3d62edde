"""What the zipapp does, by its first argument.

::

    [-D] [--threads N] [--max-boards N]     the worker, on stdin and stdout
    supervise --work-dir DIR --who WHO --from HOST --boss-pid N
              [--run ID] [--wait SECONDS] [--silence SECONDS]
    facts --json JSON
    check --json JSON
    kill --work-dir DIR [--who WHO --from HOST --boss-pid N --run ID]
    clean --work-dir DIR [--look] [--older SECONDS] [--toolchains]
    unpack --work-dir DIR --name NAME --size BYTES --sha256 HEX
                                            a toolchain archive, on stdin
    serve --supervisor PID --git-dir DIR --pack receive-pack|upload-pack
                                            git's own, but that it ends with the supervisor
    --hex ARGUMENTS                         any of these, as hexadecimal JSON: for shells that take text amiss

An empty DIR is the default one. All answers are protocol lines on stdout. Exit status: 0, 1 after an ``error``
line, 75 after ``busy``; ``kill`` ends with 1 when something is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from typing import Any, Callable, Dict, List, Sequence

from fabbuild.protocol import wire
from fabbuild.worker.base import workdir


def main(argv: Sequence[str]) -> int:
    """Do what the arguments say; gives the exit status."""
    os.umask(0o077)  # the source, and what is made of it, is its owner's business alone
    # Whoever started us may have ignored it, and then every program seems to end with 0; or have blocked signals.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    arguments = list(argv)
    if len(arguments) == 2 and arguments[0] == "--hex":
        arguments = json.loads(bytes.fromhex(arguments[1]).decode())
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BrokenPipeError:
        return 1  # nobody is left to be told
    return status


def own_command() -> List[str]:
    """Give the command that runs this very program again; empty when it was run from memory."""
    path = os.path.abspath(sys.argv[0])
    if path.startswith("/proc/") or not os.path.isfile(path):
        return []
    return [sys.executable, "-E", "-s", path]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fabbuild-worker", allow_abbrev=False)
    parser.add_argument("-D", "--debug", action="store_true", help="debug lines on stderr")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="cores to use")
    parser.add_argument("--max-boards", type=int, default=None, metavar="N", help="boards at once")
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers()
    supervisor = commands.add_parser("supervise", allow_abbrev=False)
    supervisor.add_argument("--wait", type=float, default=0.0)
    supervisor.add_argument("--silence", type=float, default=0.0)
    facts = commands.add_parser("facts", allow_abbrev=False)
    self_check = commands.add_parser("check", allow_abbrev=False)
    for command in (facts, self_check):
        command.add_argument("--json", default="{}")
    kill = commands.add_parser("kill", allow_abbrev=False)
    clean = commands.add_parser("clean", allow_abbrev=False)
    clean.add_argument("--look", action="store_true")
    clean.add_argument("--older", type=float, default=0.0)
    clean.add_argument("--toolchains", action="store_true")
    unpack_toolchain = commands.add_parser("unpack", allow_abbrev=False)
    unpack_toolchain.add_argument("--name", required=True)
    unpack_toolchain.add_argument("--size", type=int, required=True)
    unpack_toolchain.add_argument("--sha256", required=True)
    git_serve = commands.add_parser("serve", allow_abbrev=False)
    git_serve.add_argument("--supervisor", type=int, required=True)
    git_serve.add_argument("--git-dir", required=True)
    git_serve.add_argument("--pack", choices=("receive-pack", "upload-pack"), default="receive-pack")
    for command in (supervisor, kill):
        command.add_argument("--who", default="")
        command.add_argument("--from", default="", dest="host")
        command.add_argument("--boss-pid", type=int, default=0)
        command.add_argument("--run", default="", dest="boss_run")
    for command in (supervisor, kill, clean, unpack_toolchain):
        command.add_argument("--work-dir", default="")
    runs = (_supervise, _facts, _check, _kill, _clean, _unpack, _serve_git)
    for command, run in zip((supervisor, facts, self_check, kill, clean, unpack_toolchain, git_serve), runs):
        command.set_defaults(run=run)
    return parser


def _answer(resp: str, **fields: Any) -> None:
    data = wire.encode_response(resp, **fields)
    while data:
        data = data[os.write(1, data) :]


def _serve(options: argparse.Namespace) -> int:
    from fabbuild.worker.service import service

    return service.serve(options.debug, options.threads, options.max_boards)


def _supervise(options: argparse.Namespace) -> int:
    from fabbuild.worker.supervisor import supervisor

    work_dir = workdir.resolve(options.work_dir)
    return supervisor.supervise(work_dir, _boss(options), options.wait, own_command(), options.silence)


def _boss(options: argparse.Namespace) -> Dict[str, Any]:
    return {"who": options.who, "host": options.host, "pid": options.boss_pid, "run": options.boss_run}


def _facts(options: argparse.Namespace) -> int:
    from fabbuild.worker.upkeep import facts

    return _answer_request("facts", "facts", options.json, facts.gather)


def _check(options: argparse.Namespace) -> int:
    from fabbuild.worker.upkeep import self_check

    return _answer_request("check", "checked", options.json, self_check.check)


def _answer_request(command: str, resp: str, text: str, gather: Callable[[Dict[str, Any]], Dict[str, Any]]) -> int:
    try:
        request = wire.decode_object(text.encode("utf-8", "surrogateescape"))
    except wire.ProtocolError as exc:
        _answer("error", msg="%s: %s" % (command, exc))
        return 1
    _answer(resp, **gather(request))
    return 0


def _kill(options: argparse.Namespace) -> int:
    from fabbuild.worker.base import lock

    ended, holder = lock.kill(workdir.resolve(options.work_dir), _boss(options))
    _answer("killed", pids=ended.pids, left=[left._asdict() for left in ended.left], holder=holder)
    return 1 if ended.left else 0


def _serve_git(options: argparse.Namespace) -> int:
    from fabbuild.worker.supervisor import git_serve

    return git_serve.serve(options.supervisor, ["git", options.pack, options.git_dir])


def _unpack(options: argparse.Namespace) -> int:
    from fabbuild.worker.tools import unpack_toolchain

    unpack_toolchain.answer_signals()
    work_dir = workdir.resolve(options.work_dir)
    try:
        fields = unpack_toolchain.unpack(work_dir, options.name, options.size, options.sha256)
    except unpack_toolchain.UnpackError as exc:
        _answer("error", msg=str(exc))
        return 1
    except OSError as exc:
        _answer("error", msg="%s: %s" % (exc.filename or work_dir, exc.strerror or exc))
        return 1
    _answer("unpacked", **fields)
    return 0


def _clean(options: argparse.Namespace) -> int:
    # All of it now: this very program is among what is removed.
    from fabbuild.worker.base import lock
    from fabbuild.worker.supervisor import supervisor
    from fabbuild.worker.tools import unpack_toolchain
    from fabbuild.worker.upkeep import clean, disk_usage

    work_dir = workdir.resolve(options.work_dir)
    try:
        if options.look:
            parts = clean.look(work_dir, options.older, options.toolchains)
            _answer("usage", work_dir=work_dir, parts=parts, holder=lock.current_holder(work_dir))
            return 0
        before = disk_usage.total(work_dir)
        last = disk_usage.last_used(work_dir)
        if workdir.is_ours(work_dir):
            held = lock.take(work_dir)
            if held is None:
                _answer("busy", holder=lock.holder_when_busy(work_dir))
                return supervisor.BUSY_STATUS
            with contextlib.suppress(OSError):  # a full disk is a reason to clean
                held.write({"who": "clean", "host": os.uname().nodename, "pid": os.getpid()})
            if time.time() - last >= options.older:
                clean.remove(work_dir)
            else:
                clean.remove_old(work_dir, options.older, [held.fd])
                # What only cleans is no use of it.
                os.utime(os.path.join(work_dir, workdir.LOCK), (last, last))
        elif os.path.isdir(work_dir) and not (
            clean.has_bundles(work_dir) or unpack_toolchain.fetched(os.path.join(work_dir, workdir.TOOLCHAINS))
        ):
            _answer("error", msg="%s: fabbuild has never worked here; nothing was removed" % work_dir)
            return 1
        else:
            clean.remove_bundles(work_dir)
        if options.toolchains and not clean.remove_toolchains(work_dir, options.older):
            _answer("error", msg="%s: a toolchain is being unpacked there; the toolchains stay" % work_dir)
            return 1
    except OSError as exc:
        _answer("error", msg="%s: %s" % (exc.filename or work_dir, exc.strerror or exc))
        return 1
    left = disk_usage.total(work_dir)
    _answer("cleaned", work_dir=work_dir, freed_mb=_mb(before - left), left_mb=_mb(left))
    return 0


def _mb(size: int) -> float:
    return round(max(size, 0) / (1024 * 1024), 1)
