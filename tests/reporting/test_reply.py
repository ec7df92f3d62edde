"""The reply to a series of patches, from results written by hand, as its receiver reads it."""

import email
import email.policy
import subprocess

import pytest

from fabbuild.reporting.reply import make_reply, sender
from fabbuild.reporting.summary.find import Found
from fabbuild.reporting.summary.reader import open_range
from fabbuild.results.tree import ResultTree
from fabbuild.source.patches import record
from fabbuild.source.patches.apply import apply_mails
from fabbuild.source.repository import Source
from tests.source.patches.conftest import Topic, put
from tests.support.repositories import ENV, git, kbuild_tree

ME = "Eve Öre <eve@me.example>"
ERROR = """\
net.c: In function 'f':
net.c:3:1: error: 'A' undeclared (first use in this function), which is said in a line that is longer than any mail should have
    3 | A
      | ^
"""
WARNING = "net.c:9:2: warning: unused variable 'b' [-Wunused-variable]\n"
OUT = """\
git checkout --detach 1234
env LC_ALL=C LANG=C CROSS_COMPILE=arm-linux-gnueabi- KCFLAGS= make O=build -s -j2 NPROC=1 tern_defconfig
"""


class Posted:
    """A series of three patches in mails, as commits, and results of it."""

    def __init__(self, place, *options):
        repo = kbuild_tree(place / "tree")
        git(repo, "checkout", "-q", "main")
        topic = Topic(repo)
        git(repo, "checkout", "-q", "-b", "topic")
        for name in ("one", "two", "three"):
            topic.commit(f"{name}: Größer", **{f"{name}.c": f"{name}\n"})
        git(repo, "checkout", "-q", "main")
        mails = topic.mails("--cc=Eve <EVE@me.example>", "--cc=c@sand.example", *options)
        self.applied = apply_mails(topic.source, str(put(place / "mails", mails)))
        self.repo, self.output, self.name = repo, place / "out", self.applied.series.name
        self.tree = ResultTree(self.output, self.name, self.applied.commits)
        self.tree.own.mkdir(parents=True)
        self.tree.describe(self.applied.commits, {}, kind="patches")
        record.write(self.tree.own, self.applied)

    def result(self, board, upto, err="", code=0, size=1000):
        place = self.tree.place(board, upto)
        place.mkdir(parents=True)
        files = {
            "done": f"{code}\n",
            "err": err,
            "toolchain": "arch arm\ngcc /usr/bin/gcc\nversion arm-gcc 12.2\n",
            "out-cmd": OUT,
            "sizes": ""
            if code
            else f"   text\t   data\t    bss\t    dec\t    hex\n{size} 10 10 {size + 20} 0 u-boot 0\n",
        }
        for name, text in files.items():
            (place / name).write_text(text)

    def build(self, *boards, **results):
        """Write results of boards at all commits; those that are not fine by name: ``tern_2=(err, code)``."""
        for board in boards:
            for upto in range(4):
                self.result(board, upto, *results.get(f"{board}_{upto}", ()))

    def found(self):
        return Found(open_range(self.output, self.name), Source.open(self.repo))

    def reply(self, **options):
        return make_reply(self.found(), **{"me": ME, **options})

    def body(self, **options):
        return self.reply(**options).mail.get_content()


@pytest.fixture
def posted(tmp_path):
    return Posted(tmp_path, "--cover-letter")


def test_a_series_without_a_fault_is_told_of_in_three_lines(posted):
    posted.build("tern", "wren")
    made = posted.reply()
    assert made.good
    assert made.mail.get_content().splitlines() == [
        "All 2 boards (arm 2) build at each of the 3 patches, with no new",
        "warnings.",
        "All sizes are as they were.",
        f'On {posted.applied.commits[0].hash[:10]} ("base"); arm-gcc 12.2.',
    ]


def test_sizes_are_told_from_the_base_to_the_end(posted):
    for upto, size in enumerate((1000, 1100, 1100, 1050)):
        posted.result("tern", upto, size=size)
    assert "Sizes on average, in bytes: arm text +50." in posted.body()


def test_the_reply_goes_to_the_author_and_all_who_had_the_mail_but_the_sender(posted):
    posted.build("tern")
    mail = email.message_from_bytes(posted.reply().mail.as_bytes(), policy=email.policy.default)
    cover = posted.applied.series.cover.mail
    assert mail["From"] == ME
    assert [one.addr_spec for one in mail["To"].addresses] == ["a@b.example"]
    assert [one.addr_spec for one in mail["Cc"].addresses] == ["list@sand.example", "c@sand.example"]
    assert mail["Subject"] == f"Re: {cover.subject}"
    assert mail["In-Reply-To"] == cover.message_id
    assert mail["References"].split()[-1] == cover.message_id


def test_git_reads_the_mail_as_it_was_meant(posted, tmp_path):
    posted.build("tern", tern_2=(ERROR, 2))
    (tmp_path / "reply").write_bytes(posted.reply().mail.as_bytes())
    ran = subprocess.run(
        ["git", "mailinfo", "-k", tmp_path / "body", tmp_path / "patch"],
        stdin=(tmp_path / "reply").open("rb"),
        env=ENV,
        capture_output=True,
        check=True,
    )
    assert "Author: Eve Öre\nEmail: eve@me.example\n" in ran.stdout.decode()
    assert "This series breaks 1 of 1 board" in (tmp_path / "body").read_text()


def test_what_a_patch_breaks_is_told_with_the_error_as_it_is_and_the_way_to_see_it(posted):
    posted.build("tern", "wren", tern_2=(ERROR, 2), tern_3=(ERROR, 2))
    body = posted.body()
    assert body.startswith("This series breaks 1 of 2 boards.\n")
    assert "[PATCH 2/3] two: Größer\n-----------------------\n\nIt breaks tern (arm):\n" in body
    assert "\n".join(f"  {line}" for line in ERROR.splitlines()) in body
    base = posted.applied.commits[0].hash[:10]
    assert f"To see it on tern, with the patches up to this one applied on\n{base}:\n" in body
    assert "\n  CROSS_COMPILE=arm-linux-gnueabi- make O=build -s tern_defconfig\n" in body
    told = [line for line in body.splitlines() if not line.startswith("  ")]
    assert max(map(len, told)) <= 72


def test_one_patch_that_has_a_fault_is_the_one_that_is_answered(posted):
    posted.build("tern", tern_2=(ERROR, 2), tern_3=(ERROR, 2))
    mail = posted.reply().mail
    assert mail["In-Reply-To"] == posted.applied.series.patches[1].mail.message_id
    assert mail["Subject"] == "Re: [PATCH 2/3] two: Größer"
    assert "Jürgen Größe" in mail["To"]


def test_of_several_faults_the_cover_letter_is_answered_or_else_the_first_patch(tmp_path):
    faults = {"tern_1": (WARNING,), "tern_2": (WARNING + ERROR, 2), "tern_3": (WARNING + ERROR, 2)}
    for options in (("--cover-letter",), ()):
        posted = Posted(tmp_path / f"with{len(options)}", *options)
        posted.build("tern", **faults)
        mail = posted.reply().mail
        assert mail["In-Reply-To"] == posted.applied.series.first.mail.message_id
        assert "This series breaks 1 of 1 board" in mail.get_content()
        assert "It adds a warning on tern (arm):\n\n  net.c:9:2: warning: unused variable" in mail.get_content()


def test_a_patch_that_mends_what_one_before_broke_is_named(posted):
    posted.build("tern", "wren", tern_1=(ERROR, 2), wren_1=(ERROR, 2), wren_2=(ERROR, 2))
    body = posted.body()
    assert body.startswith("This series breaks 2 of 2 boards; with the whole series all of them\nbuild.\n")
    assert "[PATCH 2/3] two: Größer mends tern.\n\n[PATCH 3/3] three: Größer mends wren." in body


def test_what_fails_without_the_series_is_not_the_series_fault(posted):
    posted.build("tern", "wren", **{f"wren_{upto}": (ERROR, 2) for upto in range(4)})
    made = posted.reply()
    assert "Without the series wren (arm) did not build" in made.mail.get_content()
    assert made.mail.get_content().startswith("This series breaks nothing, and there are no new warnings.\n")
    assert not made.good


def test_a_board_that_fails_and_was_not_built_before_is_nobodys_fault(posted):
    posted.build("tern")
    for upto in (1, 2, 3):
        posted.result("wren", upto, ERROR, 2)
    body = posted.body()
    assert "wren (arm) fails with no result before, so what breaks it is not known:\nwren." in body
    assert "breaks wren" not in body
    assert body.startswith("Nothing is known that this series breaks, and there are no new warnings.")


def test_results_that_are_missing_are_no_success(posted):
    posted.build("tern")
    for upto in (0, 1):
        posted.result("wren", upto)
    made = posted.reply(trailer="Tested-by")
    assert not made.good
    body = made.mail.get_content()
    assert "What was built builds with no new warnings, but 1 of 2 boards lack" in body
    assert "Not built at every commit: wren (arm): wren (the build did not come to" in body
    assert "Tested-by" not in body
    assert made.lacks == ("there is no Tested-by: not all is well",)


def test_boards_that_were_left_out_are_told_of(posted):
    posted.build("tern")
    posted.tree.describe(posted.applied.commits, {}, kind="patches", left_out="1213")
    assert "I left out 1,213 more boards: their builds read nothing that the patches\nchange.\n" in posted.body()


def test_a_trailer_is_there_when_it_is_asked_for_and_all_is_well(posted):
    posted.build("tern")
    assert "Tested-by" not in posted.body()
    assert posted.body(trailer="Tested-by").endswith(f"\n\nTested-by: {ME}\n")
    assert "git does not know your name" in posted.reply(trailer="Tested-by", me="").lacks[0]


def test_without_mails_the_headers_are_missing_and_the_commits_are_told_of(posted):
    posted.build("tern", tern_2=(ERROR, 2))
    (posted.tree.own / record.NAME).unlink()
    made = posted.reply()
    assert (made.mail["To"], made.mail["Subject"], made.mail["From"]) == (None, None, ME)
    assert "nothing is known of mails with these commits" in made.lacks[0]
    assert f'{posted.applied.commits[2].hash[:10]} ("two: Größer")\n' in made.mail.get_content()


def test_the_sender_is_whom_git_knows_in_the_source(posted):
    posted.build("tern")
    assert sender(Found(posted.found().range, None)) == ""
    git(posted.repo, "config", "user.name", "Eve Öre")
    git(posted.repo, "config", "user.email", "eve@me.example")
    assert email.message_from_string(f"From: {sender(posted.found())}", policy=email.policy.default)["From"] == ME
