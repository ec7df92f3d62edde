import os
import shutil
import signal
import sys
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# A shell has what it starts in the background ignore it, and that is inherited: nobody would hear a Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What builds take here is no business of the user's own history.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="fabbuild-tests-")

# The digests of this machine's compilers take a second to find out; they are the same in every work directory.
_digests = "" if "FABBUILD_DIGESTS" in os.environ else tempfile.mkdtemp(prefix="fabbuild-digests-")
os.environ.setdefault("FABBUILD_DIGESTS", _digests)

# The python3 of PATH may be a script that looks for one among many (pyenv), which takes longer than Python to start.
_programs = "" if "FABBUILD_TESTS_PYTHON" in os.environ else tempfile.mkdtemp(prefix="fabbuild-python-")
if _programs:
    os.environ["FABBUILD_TESTS_PYTHON"] = _programs
    os.symlink(os.path.realpath(sys.executable), os.path.join(_programs, "python3"))
    os.environ["PATH"] = os.pathsep.join([_programs, os.environ["PATH"]])


#: Bytes of memory to be free, and of the file system in it, for tests to keep their files there.
_ROOM = 12 << 30


def _in_memory(place="/dev/shm"):
    """Return a file system in memory for the files of tests, if it has room: most of what they write is small files."""
    try:
        about = os.statvfs(place)
        with open("/proc/meminfo") as file:
            free = dict(line.split(":") for line in file)["MemAvailable"]
        roomy = min(about.f_bavail * about.f_frsize, int(free.split()[0]) << 10) >= _ROOM
        return place if roomy and os.access(place, os.W_OK) and not about.f_flag & os.ST_NOEXEC else ""
    except (OSError, KeyError):
        return ""


# pytest's own variable for the directory below which it makes those of tests.
if _in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _in_memory())


def pytest_unconfigure():
    shutil.rmtree(os.environ["XDG_DATA_HOME"], ignore_errors=True)
    for place in filter(None, (_digests, _programs)):
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _hears_of_a_hang_up():
    """Have what the tests start hear of a SIGHUP also where they run under ``nohup``, and go on without it ourselves.

    What is ignored is inherited, and what the product finds ignored it ignores as well; a handler is not inherited.
    In whatever process the tests themselves run, and not before: one that only starts others is to hand on to them
    what ``nohup`` gave to it.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)


# How long an example takes says more of what else the machine does than of the code. `--hypothesis-profile=full` is what
# `inv test --deep` adds.
_always = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
settings.register_profile("small", _always, max_examples=20)
settings.register_profile("full", _always, max_examples=200)
settings.load_profile("small")

pytest_plugins = [
    "tests.support.tree",
    "tests.support.census",
    "tests.support.sshd",
    "tests.support.farm",
    "tests.support.cable",
    "tests.support.supervised",
    "tests.support.pushed",
    "tests.support.peer",
    "tests.support.scenes",
    "tests.support.uboot",
    "tests.support.mirror",
    "tests.support.browser",
    "tests.support.agents",
]
