"""A machine's work directory: its layout, names and permissions.

::

    WORK/lock                      the machine's lock (`fabbuild.worker.base.lock`)
    WORK/bin/worker-SHA256.pyz     this program (`fabbuild.machines.worker_zip`)
        worker-….cpython-NNN       its copy with byte code (`fabbuild.worker.byte_code`)
    WORK/bin/identity.json         digests of compilers and tools (`fabbuild.worker.deps.fingerprint`)
    WORK/repo.git/                 the bare repository of the source (`fabbuild.worker.source.bare_repo`)
        refs/fabbuild/             what was pushed (`fabbuild.protocol.names`)
        fabbuild.config            its settings
        info/attributes            attributes that switch filters off
        fabbuild.damaged           something in it is broken: it is made anew at the next start
        fabbuild.collected         when garbage was collected last (`fabbuild.worker.upkeep.garbage`)
    WORK/.git                      for another program as the worker: makes WORK a worktree
    WORK/slots/NN/                 a git worktree for each slot (`fabbuild.worker.source.worktrees`)
        build/                     its output directory
            .fabbuild.json         what was built there (`fabbuild.worker.build.output_dir`)
        build.aside/, .gone/       output that is compared, or removed
    WORK/slots/.outputs/BOARD/     the output of a board that no slot builds (`fabbuild.worker.build.kept_outputs`)
        .fabbuild-size             its size (`fabbuild.worker.base.disk_size`)
    WORK/slots/.aside.tmp.NN/      the temporary files of a slot's builds
    WORK/slots/.aside.*            what is, or could not be, removed (`fabbuild.worker.base.directories`)
    WORK/tools/DIGEST/             what a build's PATH begins with (`fabbuild.worker.tools.tool_wrappers`)
    WORK/tools/.new.*, .broken.*   such a directory while it is made, or removed
    WORK/cache/ccache/             the compiler cache of all slots
    WORK/toolchains/NAME/          a compiler that was fetched (`fabbuild.worker.tools.unpack_archive`)
    WORK/toolchains/.lock, .new-*  one archive at a time is unpacked, and where
    WORK/files/NAME/               files that variables of builds name, by their content
    WORK/files/.lock, .new-*       as for toolchains
    WORK/slots/.files              a link to WORK/files, by whose name builds know it
    WORK/.fabbuild-check.*         scratch files of `fabbuild.worker.upkeep.self_check`; there for seconds only

WORK is ``~/.cache/fabbuild/<name of the machine>`` unless machines.yaml says otherwise: named by the machine, so
that a home directory shared over NFS serves many machines. Kbuild cannot build below every path: for such a work
directory ``WORK/slots`` is a link to a private directory, ``fabbuild-UID-DIGEST`` below TMPDIR or ``/var/tmp``.

Permissions: nobody but its owner can get at any of it. ``WORK`` is made with mode 0700, and so is each directory in
it, because a work directory that exists keeps the mode that its owner gave it. What is in these has the modes that
it has anywhere: a build may put modes into what it makes, and they must not depend on the machine. So the worker,
and each make and git that it starts, has umask 022, whatever that of the machine's user is. All other commands of
`fabbuild.worker.main.main`, git's side of a push among them, have 077. The shell line that writes the program into
``WORK/bin`` sets the umask itself. A boss on this very machine links objects into the repository under the user's
own umask: there git follows ``core.sharedRepository=0600``. What an older version left open is closed: ``repo.git``
and ``slots`` get mode 0700. A worktree that it made under umask 077 is made again.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import tempfile
from typing import List

from fabbuild.protocol import names

#: The umask of builds and checkouts, and that of everything else.
BUILD_UMASK = 0o022
PRIVATE_UMASK = 0o077

BIN = names.BIN
LOCK = "lock"
REPO = "repo.git"
SLOTS = "slots"
TOOLS = "tools"
CACHE = "cache"
CCACHE = "cache/ccache"
TOOLCHAINS = names.TOOLCHAINS
FILES = names.FILES

#: In `BIN`: digests of files and answers of compilers, as JSON. While it is written, more characters follow.
DIGESTS = "identity.json"

#: In `REPO`: its settings; its attributes; that git found something broken; when garbage was collected, as JSON.
REPO_SETTINGS = "fabbuild.config"
REPO_ATTRIBUTES = "info/attributes"
DAMAGED = "fabbuild.damaged"
COLLECTED = "fabbuild.collected"

#: The link of git that makes the work directory a worktree, for a worker that is another program; its text, and the
#: name that it has in `REPO`.
GIT_LINK = ".git"
WORKTREE = "work-directory"
GIT_LINK_TEXT = "gitdir: %s/worktrees/%s\n" % (REPO, WORKTREE)

#: In `SLOTS`: a worktree; what could not be removed, a pid and a random number following.
SLOT = re.compile(r"\d{2,}")
ASIDE = ".aside."

#: In `SLOTS`: the temporary files of a slot's builds, the slot's name following; they go as the above.
BUILD_TMP = ASIDE + "tmp."

#: In a private directory of worktrees: the path of the work directory that they belong to.
SLOTS_OWNER = ".work-dir"

#: In a worktree or an output directory: a file that is made to read the file system's time.
NOW = ".fabbuild-now"

#: In an output directory: what was built there, as JSON, unless a checkout or make is at work.
STATE = ".fabbuild.json"

#: In `SLOTS`: the output directories of boards, by board. In each: its size in bytes, as it was put there.
OUTPUTS = ".outputs"
OUTPUT_SIZE = ".fabbuild-size"

#: Follow the name of an output directory: files that make is to make again; what is being removed.
OUTPUT_ASIDE = ".aside"
OUTPUT_GONE = ".gone"

#: In `TOOLS`: a directory that is whole, or one that is being made or removed.
TOOLS_NEW = ".new."
TOOLS_BROKEN = ".broken."
TOOLS_PART = re.compile(r"[0-9a-f]{24}|\.(new|broken)\..*")

#: In `SLOTS`: a link to `FILES`, as Kbuild cannot build by every path below the work directory.
FILES_LINK = ".files"

#: In `TOOLCHAINS` and `FILES`: the lock of whoever unpacks; begins the name of what is being unpacked.
TOOLCHAINS_LOCK = ".lock"
TOOLCHAINS_NEW = ".new-"

#: Begins the names of the scratch directories of checks; a pid follows, a dot, and a random number.
SCRATCH = ".fabbuild-check."

#: Begins the name of a temporary work directory, that of a worker that was given none.
TEMPORARY = "fabbuild-worker-"


def slot_name(slot: int) -> str:
    """Return the name of a slot's worktree in `SLOTS`."""
    return "%02d" % slot


def default_work_dir() -> str:
    """Return the absolute work directory of a machine whose settings name none."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):  # a relative one is to be ignored, says the XDG specification
        cache = os.path.join(_home(), ".cache")
    return os.path.join(cache, "fabbuild", os.uname().nodename)


def resolve(text: str) -> str:
    """Return the absolute path for a ``work_dir`` of machines.yaml: empty, absolute, ``~/…`` or below the home."""
    if not text:
        return default_work_dir()
    if text == "~" or text.startswith("~/"):
        text = text[2:]
    return os.path.normpath(os.path.join(_home(), text))


def make(work_dir: str) -> None:
    """Make the work directory, readable by its owner only; an existing directory keeps its mode.

    Raises:
        OSError: the directory cannot be made.
    """
    os.makedirs(work_dir, mode=0o700, exist_ok=True)


def is_ours(work_dir: str) -> bool:
    """Whether fabbuild has worked in this directory: it holds the lock file or the repository."""
    return os.path.isfile(os.path.join(work_dir, LOCK)) or os.path.isdir(os.path.join(work_dir, REPO))


def other_owner(work_dir: str) -> str:
    """Return the name of the other user whose fabbuild works in this directory; empty for none.

    Whoever took its lock first owns it: what two users make there is locked to one of them. The owner of the
    directory itself does not count, for it may be one that was made for several to work below, or a container's.
    """
    try:
        owner = os.lstat(os.path.join(work_dir, LOCK)).st_uid
    except OSError:
        return ""
    if owner in (os.geteuid(), _owner_of_new_files(work_dir)):
        return ""
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return "user %d" % owner


def _owner_of_new_files(work_dir: str) -> int:
    """Return whom a file that we make belongs to: a file server may give all files to one user."""
    try:
        with tempfile.TemporaryFile(dir=work_dir) as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:
        return -1


def nearest_existing(path: str) -> str:
    """Return the path or its nearest existing parent: the place and the disk where the path would be made."""
    while not os.path.exists(path):
        parent = os.path.dirname(path)
        if parent == path:
            break
        path = parent
    return path


def stale_scratch(folder: str) -> List[str]:
    """Return the scratch directories in a folder whose checks have ended."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            pid = name[len(SCRATCH) :].split(".")[0]
            if name.startswith(SCRATCH) and pid.isdigit() and not os.path.exists("/proc/" + pid):
                found.append(os.path.join(folder, name))
    return found


def _home() -> str:
    return os.path.expanduser("~")
