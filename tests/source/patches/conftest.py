import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from fabbuild.source.repository import Source
from tests.support.repositories import ENV, git, kbuild_tree

AUTHOR = {
    "GIT_AUTHOR_NAME": "Jürgen Größe",
    "GIT_AUTHOR_EMAIL": "j@sand.example",
    "GIT_AUTHOR_DATE": "2026-03-01T12:00:00+0100",
}


@dataclass
class Topic:
    """A tree with ``main`` checked out, and a branch ``topic`` of three commits, which are posted as mails."""

    repo: Path

    @property
    def source(self) -> Source:
        return Source.open(self.repo)

    def mails(self, *options: str, tips: str = "main..topic") -> list[bytes]:
        """Give the mails that git makes of the series."""
        place = self.repo.parent / f"made-{len(list(self.repo.parent.iterdir()))}"
        git(self.repo, "format-patch", "-q", "--thread", "--to=list@sand.example", *options, "-o", str(place), tips)
        return [path.read_bytes() for path in sorted(place.iterdir())]

    def trees(self, tips: str = "main..topic") -> list[str]:
        return git(self.repo, "log", "--reverse", "--format=%T", tips).splitlines()

    def commit(self, subject: str, **files: str) -> str:
        for name, text in files.items():
            (self.repo / name).write_bytes(text.encode())
        git(self.repo, "add", "-A")
        command = ["git", "commit", "-q", "-s", "--allow-empty", "-m", subject]
        subprocess.run(command, cwd=self.repo, env={**ENV, "HOME": str(self.repo), **AUTHOR}, check=True)
        return git(self.repo, "rev-parse", "HEAD")


def put(place: Path, mails: list[bytes]) -> Path:
    """Write mails as files of a directory."""
    place.mkdir()
    for number, mail in enumerate(mails):
        (place / f"{number}.eml").write_bytes(mail)
    return place


def lines(**changed: str) -> str:
    """Give the text of a file of twenty lines, some of them changed: ``_3="x"``."""
    return "".join(f"{changed.get(f'_{number}', f'line {number}')}\n" for number in range(1, 21))


@pytest.fixture(scope="session")
def shared_topic(tmp_path_factory):
    made = Topic(kbuild_tree(tmp_path_factory.mktemp("topic") / "tree"))
    git(made.repo, "checkout", "-q", "main")
    made.commit("More files", many=lines(), dos=lines().replace("\n", "\r\n"))
    git(made.repo, "checkout", "-q", "-b", "topic")
    made.commit("many: Überall größer\n\nFrom now on it is größer:\n\n  as can be seen", many=lines(_3="größer"))
    made.commit(
        "dos: Change it too\n\nAs a list has it\n\n-- >8 --\n\nand below",
        dos=lines(_3="three").replace("\n", "\r\n"),
    )
    made.commit(
        "new: Add a file\n\n>From here on\n\nReviewed-by: R <r@sand.example>",
        new="\tone \n\ttwo\n",
        many=lines(_3="größer", _9="9"),
    )
    git(made.repo, "checkout", "-q", "main")
    return made


@pytest.fixture(scope="session")
def posted(shared_topic) -> list[bytes]:
    """The mails of the series, with a cover letter."""
    return shared_topic.mails("--cover-letter")


@pytest.fixture
def topic(shared_topic, tmp_path):
    """A copy of the tree, which a test may do with as it likes."""
    subprocess.run(["cp", "-a", str(shared_topic.repo), str(tmp_path / "tree")], check=True)
    git(tmp_path / "tree", "update-index", "-q", "--refresh")
    return Topic(tmp_path / "tree")
