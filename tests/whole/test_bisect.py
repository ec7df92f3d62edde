"""`inv bisect` on the sample tree: which commit it finds, what it says, and that it goes on after an interrupt."""

import json
import signal

import pytest

from tests.support.repositories import git
from tests.support.schemas import hold

PLANTED = 7


@pytest.fixture
def local_farm(farm):
    farm.machines(local=True)
    return farm


def plant(source, commits=12, planted=PLANTED, text="int planted = HANDOFF_LOST;\n", file="common/main.c"):
    """Add commits that each change a file that boards read; one of them adds ``text``. Give their hashes."""
    made = []
    for number in range(1, commits + 1):
        path = source / file
        path.write_text(path.read_text() + f"/* edit {number} */\n" + (text if number == planted else ""))
        git(source, "commit", "-qam", f"main: Edit {number}")
        made.append(git(source, "rev-parse", "HEAD"))
    return made


def bisect(farm, *words, **env):
    named = ["--source", str(farm.source), "--output", str(farm.output)]
    return farm.run("bisect", *named, *words, **env)


def found(ended):
    return next((line.split()[3] for line in ended.out.splitlines() if line.startswith("first bad commit: ")), "")


def test_the_first_commit_that_fails_is_found_with_its_error_its_author_and_how_to_see_it(local_farm, tmp_path):
    made = plant(local_farm.source)
    log = tmp_path / "log"
    ended = bisect(local_farm, "--only", "sandbox", "--good", "main~12", "--log", str(log))
    assert (ended.status, found(ended)) == (0, made[PLANTED - 1]), ended
    assert "HANDOFF_LOST" in ended.out
    assert "author: A <a@b.example>" in ended.out
    assert f"git checkout {made[PLANTED - 1][:12]}\n" in ended.out
    assert "make" in ended.out.partition("to see it")[2]
    assert "12 commits left; builds" in ended.out
    git(local_farm.source, "bisect", "replay", str(log))
    assert git(local_farm.source, "rev-parse", "refs/bisect/bad") == made[PLANTED - 1]
    git(local_farm.source, "bisect", "reset")
    again = bisect(local_farm, "--only", "sandbox", "--good", "main~12", "--json")
    told = json.loads(again.out)
    hold("bisect-1", told)
    assert (told["first_bad"], told["builds"], list(told["boards"])) == (made[PLANTED - 1], 0, ["sandbox"])


def test_the_fault_looked_for_is_found_past_commits_that_fail_in_another_way(local_farm):
    source = local_farm.source
    path = source / "common/main.c"
    plain = path.read_text()
    made = []
    for number in range(1, 9):
        broken = "int other = OTHER;\n" if number in (4, 5) else ""
        planted = "int planted = HANDOFF_LOST;\n" if number >= 6 else ""
        path.write_text(f"{plain}/* {number} */\n{broken}{planted}")
        git(source, "commit", "-qam", f"main: Edit {number}")
        made.append(git(source, "rev-parse", "HEAD"))
    ended = bisect(local_farm, "--only", "sandbox", "--good", made[0], "--error", "HANDOFF_LOST")
    assert ended.status == 102, ended
    assert "cannot be judged: sandbox: it fails in another way" in ended.out
    for one in made[3:6]:
        assert f"  {one}" in ended.out
    assert f"  {made[6]}" not in ended.out
    ended = bisect(local_farm, "--only", "sandbox", "--good", made[0])
    assert found(ended) == made[3], "without --error any failure counts"


@pytest.mark.parametrize(
    ("text", "criterion", "says"),
    [
        ("int f(void);\nint f(void) { int planted; return 0; }\n", ["--warning", "unused.*planted"], "planted"),
        ("int planted[100] = { 1 };\n", ["--grows", "data:400"], "data +4"),
        (
            "int planted = 1;\n",
            ["--keep", "u-boot.map", "--run", "test $FABBUILD_BOARD = sandbox && ! grep -qw planted u-boot.map"],
            "the command ended with 1",
        ),
    ],
)
def test_other_faults_are_found(local_farm, text, criterion, says):
    if "--run" in criterion:  # the sample makes no map
        makefile = local_farm.source / "common/Makefile"
        makefile.write_text(
            makefile.read_text() + "\nall: u-boot.map\nu-boot.map: $(srctree)/common/main.c\n\t@cp $< $@\n"
        )
        git(local_farm.source, "commit", "-qam", "a map")
    made = plant(local_farm.source, 4, 3, text)
    ended = bisect(local_farm, "--only", "sandbox", "--good", "main~4", *criterion)
    assert (ended.status, found(ended)) == (0, made[2]), ended
    assert says in ended.out


def test_ends_that_are_not_what_they_are_said_to_be_are_refused(local_farm):
    made = plant(local_farm.source, 4, 2)
    for words, says in (
        (["--good", made[1]], "is bad, too"),
        (["--good", "main~4", "--bad", made[0]], "is not bad"),
        (["--good", "main", "--bad", made[0]], "exchange the two"),
        (["--good", "main", "--bad", "main"], "the same commit"),
        (["--good", "nowhere"], "no commit 'nowhere'"),
        ([], "--good"),
        (["--good", "main~4", "--error", "a", "--run", "b"], "give one of them"),
        (["--good", "main~4", "--error", "("], "no regular expression"),
        (["--good", "main~4", "--grows", "heap:3"], "REGION"),
    ):
        ended = bisect(local_farm, "--only", "sandbox", *words)
        assert (ended.status, says in " ".join(ended.err.split())) == (1, True), (words, ended)


def test_a_good_commit_beside_the_bad_one_has_their_merge_base_tested(local_farm):
    source = local_farm.source
    git(source, "checkout", "-qb", "side")
    side = plant(source, 1, 0)[0]
    git(source, "checkout", "-q", "main")
    made = plant(source, 4, 3)
    ended = bisect(local_farm, "--only", "sandbox", "--good", side)
    assert found(ended) == made[2], ended
    # Where the base is bad the fault was mended on the way to the good one.
    git(source, "checkout", "-qb", "mended")
    path = source / "common/main.c"
    path.write_text(path.read_text().replace("HANDOFF_LOST", "1"))
    git(source, "commit", "-qam", "mend it")
    git(source, "checkout", "-q", "main")
    plant(source, 1, 0)
    ended = bisect(local_farm, "--only", "sandbox", "--good", "mended")
    assert ended.status == 1
    assert "was mended" in ended.err


def test_of_several_boards_those_are_named_that_show_the_fault(local_farm):
    made = plant(local_farm.source, 3, 2, file="arch/sandbox/cpu/sandbox/spl.c")
    ended = bisect(local_farm, "--only", "sandbox,sandbox_spl", "--good", "main~3")
    assert (ended.status, found(ended)) == (0, made[1]), ended
    assert "only sandbox_spl shows the fault" in ended.out


@pytest.mark.deep
def test_it_goes_on_where_it_was_interrupted(local_farm):
    made = plant(local_farm.source)
    words = ["--source", str(local_farm.source), "--output", str(local_farm.output)]
    process = local_farm.start("bisect", *words, "--only", "sandbox", "--good", "main~12")
    for line in process.stdout:
        if line.startswith("round 2"):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=120)
    assert (process.returncode, "goes on from here" in err) == (130, True), err
    ended = bisect(local_farm, "--only", "sandbox", "--good", "main~12")
    assert found(ended) == made[PLANTED - 1]
    assert "round 1: the ends; all known" in ended.out


@pytest.mark.deep
def test_several_machines_build_a_commit_each(ssh_farm):
    made = plant(ssh_farm.source)
    ended = bisect(ssh_farm, "--only", "sandbox", "--good", "main~12", "--json")
    told = json.loads(ended.out)
    assert told["first_bad"] == made[PLANTED - 1]
    assert len(told["rounds"][1]["commits"]) == 3
    assert len(told["rounds"]) <= 4
