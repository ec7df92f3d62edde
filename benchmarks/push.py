"""What it costs this machine to bring a source to several others, with one pack for all and with one for each.

    python benchmarks/push.py SOURCE [--machines 3] [--rounds 3]

SOURCE is a git clone of a Kbuild tree; it is cloned once more, and work goes on in the clone. Each machine is an
sshd on loopback with a work directory of its own. A round is, in each way: a push to machines that have nothing,
one of a commit more, one of an edit in the working tree, and one of nothing new. Prints medians of wall and CPU
seconds of `inv push` with all that it starts here (git, ssh; not what runs on the machines), and megabytes on the
loopback interface, where nothing else may go on meanwhile.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml
from comparelib.measure import loopback

from tests.support.sshd import make_sshd

INV = Path(sys.executable).with_name("inv")
WAYS = {"one pack": (), "one each": ("--no-one-pack",)}
STEPS = ("nothing there", "one commit", "an edit", "nothing new")


def git(repo: Path, *arguments: str) -> None:
    """Run git in a repository, as somebody."""
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    subprocess.run(["git", "-C", repo, *who, *arguments], check=True, stdout=subprocess.DEVNULL)


def push(base: Path, source: Path, *options: str) -> tuple[float, float, float]:
    """Run ``inv push``; give its wall and CPU seconds, and megabytes on the wire."""
    environment = {
        **os.environ,
        "INVOKE_FABBUILD_SSH_CONFIG": str(base / "ssh_config"),
        "XDG_CACHE_HOME": str(base / "cache"),
        "HOME": str(base),
    }
    bytes_before, began = loopback(), time.monotonic()
    process = subprocess.Popen(
        [INV, "push", "--source", source, *options], cwd=base, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"inv push ended with {os.waitstatus_to_exitcode(status)}")
    wall = time.monotonic() - began
    return wall, used.ru_utime + used.ru_stime, (loopback() - bytes_before) / 1e6


def main() -> None:
    """Do as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--machines", type=int, default=3, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    options = parser.parse_args()
    os.environ.setdefault("FABBUILD_DIGESTS", "")
    figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="fabbuild-push-") as place:
        base = Path(place)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        servers = [make_sshd(base, f"m{number}", f"127.0.0.{number + 21}") for number in range(options.machines)]
        (base / "tasks.py").write_text("from fabbuild import ns\n")
        machines = {
            f"m{number}": {"host": f"m{number}", "work_dir": str(base / f"work{number}")}
            for number in range(options.machines)
        }
        (base / "machines.yaml").write_text(yaml.safe_dump({"machines": machines}))
        source = base / "source"
        subprocess.run(["git", "clone", "-q", "--shared", options.source, source], check=True)
        try:
            for server in servers:
                server.start()
            for number in range(options.rounds):
                for way, more in WAYS.items():
                    for path in base.glob("work*"):
                        shutil.rmtree(path)
                    _round(figures, base, source, way, (number, *more))
        finally:
            for server in servers:
                server.stop()
    print(f"{options.machines} machines, medians of {options.rounds}")
    print(f"{'':24}{'wall s':>8}{'CPU s':>8}{'lo MB':>8}")
    for (step, way), seen in figures.items():
        print(f"{step:14}{way:10}" + "".join(f"{statistics.median(one):8.2f}" for one in zip(*seen, strict=True)))


def _round(figures: dict, base: Path, source: Path, way: str, how: tuple) -> None:
    number, *more = how
    path = source / "Makefile"
    git(source, "reset", "-q", "--hard")
    figures["nothing there", way].append(push(base, source, "--count", "1", *more))
    path.write_text(f"{path.read_text()}\n# {number} {way}\n")
    git(source, "commit", "-qam", "one more")
    figures["one commit", way].append(push(base, source, "--count", "1", *more))
    path.write_text(f"{path.read_text()}\n# edited\n")
    figures["an edit", way].append(push(base, source, *more))
    figures["nothing new", way].append(push(base, source, *more))


if __name__ == "__main__":
    main()
