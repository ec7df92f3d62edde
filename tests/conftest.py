from hypothesis import settings

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("fabbuild", deadline=None)
settings.load_profile("fabbuild")

pytest_plugins = [
    "tests.support.tree",
    "tests.support.census",
    "tests.support.sshd",
    "tests.support.farm",
    "tests.support.cable",
    "tests.support.scenes",
    "tests.support.uboot",
]
