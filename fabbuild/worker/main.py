"""The worker program: run the command that its first argument names.

::

    [-D] [--threads N] [--max-boards N]     the worker, on stdin and stdout
    supervise --work-dir DIR --who WHO --from HOST --boss-pid N
              [--run ID] [--wait SECONDS] [--silence SECONDS]
    facts --json JSON
    check --json JSON
    kill --work-dir DIR [--who WHO --from HOST --boss-pid N --run ID]
    clean --work-dir DIR [--look] [--older SECONDS] [--toolchains]
    unpack --work-dir DIR --name NAME --size BYTES --sha256 HEX [--into toolchains|files]
                                            an archive, on stdin
    serve --supervisor PID --git-dir DIR --pack receive-pack|upload-pack
                                            git's side of a push, which ends with the supervisor
    --hex ARGUMENTS                         any of these, as hexadecimal JSON: for shells that mangle text

An empty DIR is the default work directory. All answers are protocol lines on stdout. Exit status: 0, 1 after an
``error`` line, 75 after ``busy``; ``kill`` ends with 1 when something is left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import Any, Callable, Dict, List, Sequence

from fabbuild.protocol import wire
from fabbuild.protocol.names import PYTHON_OPTIONS
from fabbuild.worker.base import workdir


def main(argv: Sequence[str]) -> int:
    """Run the command that the arguments name; return the exit status."""
    os.umask(workdir.PRIVATE_UMASK)
    # The parent may ignore SIGCHLD, and then every program seems to end with 0; or it may have blocked signals.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    arguments = list(argv)
    if len(arguments) == 2 and arguments[0] == "--hex":
        arguments = json.loads(bytes.fromhex(arguments[1]).decode())
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BrokenPipeError:
        return 1  # nobody is left to read the answer
    return status


def own_command() -> List[str]:
    """Return the command line that runs this program again; empty if it was run from memory."""
    path = os.path.abspath(sys.argv[0])
    if path.startswith("/proc/") or not os.path.isfile(path):
        return []
    return [sys.executable, PYTHON_OPTIONS, path]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fabbuild-worker", allow_abbrev=False)
    parser.add_argument("-D", "--debug", action="store_true", help="debug lines on stderr")
    parser.add_argument("--threads", type=int, default=None, metavar="N", help="cores to use")
    parser.add_argument("--max-boards", type=int, default=None, metavar="N", help="boards at once")
    parser.set_defaults(run=_work)
    runs = {
        "supervise": _supervise,
        "facts": _facts,
        "check": _check,
        "kill": _kill,
        "clean": _clean,
        "unpack": _unpack,
        "serve": _serve_git,
    }
    subparsers = parser.add_subparsers()
    commands = {name: subparsers.add_parser(name, allow_abbrev=False) for name in runs}
    for name, run in runs.items():
        commands[name].set_defaults(run=run)
    for name in ("supervise", "kill", "clean", "unpack"):
        commands[name].add_argument("--work-dir", default="")
    for name in ("supervise", "kill"):
        commands[name].add_argument("--who", default="")
        commands[name].add_argument("--from", default="", dest="host")
        commands[name].add_argument("--boss-pid", type=int, default=0)
        commands[name].add_argument("--run", default="", dest="boss_run")
    for name in ("facts", "check"):
        commands[name].add_argument("--json", default="{}")
    commands["supervise"].add_argument("--wait", type=float, default=0.0)
    commands["supervise"].add_argument("--silence", type=float, default=0.0)
    commands["clean"].add_argument("--look", action="store_true")
    commands["clean"].add_argument("--older", type=float, default=0.0)
    commands["clean"].add_argument("--toolchains", action="store_true")
    commands["unpack"].add_argument("--name", required=True)
    commands["unpack"].add_argument("--size", type=int, required=True)
    commands["unpack"].add_argument("--sha256", required=True)
    commands["unpack"].add_argument(
        "--into", choices=(workdir.TOOLCHAINS, workdir.FILES), default=workdir.TOOLCHAINS
    )
    commands["serve"].add_argument("--supervisor", type=int, required=True)
    commands["serve"].add_argument("--git-dir", required=True)
    commands["serve"].add_argument("--pack", choices=("receive-pack", "upload-pack"), default="receive-pack")
    return parser


def _answer(resp: str, **fields: Any) -> None:
    data = wire.encode_response(resp, **fields)
    while data:
        data = data[os.write(1, data) :]


def _refuse(why: str) -> int:
    _answer("error", msg=why)
    return 1


def _refuse_for(exc: OSError, work_dir: str) -> int:
    return _refuse("%s: %s" % (exc.filename or work_dir, exc.strerror or exc))


# Each command imports its modules itself, because it ends sooner without those of the other commands.


def _work(options: argparse.Namespace) -> int:
    from fabbuild.worker.service import service

    os.umask(workdir.BUILD_UMASK)
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
        return _refuse("%s: %s" % (command, exc))
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
    from fabbuild.worker.tools import unpack_archive

    unpack_archive.answer_signals()
    work_dir = workdir.resolve(options.work_dir)
    try:
        fields = unpack_archive.unpack(work_dir, options.name, options.size, options.sha256, into=options.into)
    except unpack_archive.UnpackError as exc:
        return _refuse(str(exc))
    except OSError as exc:
        return _refuse_for(exc, work_dir)
    _answer("unpacked", **fields)
    return 0


def _clean(options: argparse.Namespace) -> int:
    from fabbuild.worker.supervisor import supervisor
    from fabbuild.worker.upkeep import clean

    work_dir = workdir.resolve(options.work_dir)
    try:
        if options.look:
            _answer("usage", **clean.look(work_dir, options.older, options.toolchains))
        else:
            _answer("cleaned", **clean.clean(work_dir, options.older, options.toolchains))
    except clean.HeldError as exc:
        _answer("busy", holder=exc.holder)
        return supervisor.BUSY_STATUS
    except clean.CleanError as exc:
        return _refuse(str(exc))
    except OSError as exc:
        return _refuse_for(exc, work_dir)
    return 0
