pytest_plugins = [
    "tests.support.tree",
    "tests.support.census",
    "tests.support.sshd",
    "tests.support.farm",
    "tests.support.cable",
    "tests.support.scenes",
    "tests.support.uboot",
]
