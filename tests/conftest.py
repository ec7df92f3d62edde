import os
import shutil
import signal
import tempfile

from hypothesis import settings

# A shell has what it starts in the background ignore it, and that is inherited: nobody would hear a Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What builds take here is no business of the user's own history.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="fabbuild-tests-")


def pytest_unconfigure():
    shutil.rmtree(os.environ["XDG_DATA_HOME"], ignore_errors=True)


# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("fabbuild", deadline=None)
settings.load_profile("fabbuild")

pytest_plugins = [
    "tests.support.tree",
    "tests.support.census",
    "tests.support.sshd",
    "tests.support.farm",
    "tests.support.cable",
    "tests.support.peer",
    "tests.support.scenes",
    "tests.support.uboot",
    "tests.support.mirror",
    "tests.support.browser",
]
