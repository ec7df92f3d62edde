"""Series of mails that git made become commits, in whatever form they come, and the user's repository stays as it is."""

import base64
import gzip
import io
import mailbox
import quopri
import re
import sys

import pytest

from fabbuild.errors import SourceError
from fabbuild.source.patches.apply import apply_mails
from fabbuild.source.repository import Source, _SpareObjects
from tests.source.patches.conftest import lines, put
from tests.support.repositories import git


def applied(topic, mails, **options):
    return apply_mails(topic.source, str(mails), **options)


@pytest.fixture(autouse=True)
def _notes(caplog):
    caplog.set_level("WARNING", "fabbuild")


def test_each_patch_is_a_commit_after_the_base_with_author_and_message_id(topic, tmp_path):
    mails = topic.mails("--cover-letter", "-v3")
    made = applied(topic, put(tmp_path / "mails", mails))
    assert [commit.number for commit in made.commits] == [1, 2, 3, 4]
    assert made.commits[0].hash == git(topic.repo, "rev-parse", "main")
    assert [commit.tree for commit in made.commits[1:]] == topic.trees()
    assert [commit.subject for commit in made.commits[1:]] == [
        "many: Überall größer", "dos: Change it too", "new: Add a file",
    ]  # fmt: skip
    assert (made.named, made.series.version, made.series.name) == ("HEAD", 3, "many-berall-gr-er-v3")
    message_id = re.search(rb"Message-Id: (<.*>)", mails[1], re.IGNORECASE)[1].decode()
    shown = git(topic.repo, "log", "-1", "--format=%an|%ae|%ad|%cn|%cd|%B", made.commits[1].hash)
    assert shown == (
        "Jürgen Größe|j@sand.example|Sun Mar 1 12:00:00 2026 +0100|fabbuild|Sun Mar 1 12:00:00 2026 +0100|many: Überall größer\n\n"
        "From now on it is größer:\n\n  as can be seen\n\n"
        f"Signed-off-by: A <a@b.example>\nMessage-ID: {message_id}"
    )
    listed = topic.source.range(f"{made.commits[0].hash}..{made.commits[-1].hash}")
    assert [commit.subject for commit in listed] == [commit.subject for commit in made.commits[1:]]


def _one_file(mails, place):
    place.write_bytes(b"".join(mails))
    return place


def _gz(mails, place):
    place.write_bytes(gzip.compress(b"".join(mails)))
    return place


def _maildir(mails, place):
    made = mailbox.Maildir(place)
    for mail in mails:
        made.add(mail.partition(b"\n")[2])
    return place


def _stdin(mails, place, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"".join(mails))))
    return "-"


def _without_from_lines(mails, place):
    return put(place, [mail.partition(b"\n")[2] for mail in mails])


def _reordered_and_twice(mails, place):
    return put(place, [mails[2], mails[0], mails[3], mails[1], mails[2], mails[0]])


def _with_replies(mails, place):
    quoted = b"".join(b"> " + line for line in mails[1].splitlines(keepends=True))
    reply = b"From: r@sand.example\nSubject: Re: [PATCH 1/3] many\nMessage-ID: <r@r>\n\n" + quoted
    diff = b"From: r@sand.example\nSubject: Re: [PATCH 2/3] x\nMessage-ID: <s@r>\n\nBetter:\n" + mails[2]
    notice = b"From: r@sand.example\nSubject: A notice\n\nSee you there.\n"
    return put(place, [reply, *mails, diff, notice])


def _crlf(mails, place):
    return put(place, [mail.replace(b"\n", b"\r\n") for mail in mails])


def _encoded(encoding, body):
    if encoding == "base64":
        return base64.encodebytes(body)
    # Python's own encoder drops a carriage return at the end of a line.
    return quopri.encodestring(body.replace(b"\r\n", b"\1\n")).replace(b"=01", b"=0D")


def _transfer(encoding):
    def transferred(mails, place):
        made = []
        for mail in mails:
            head, _, body = mail.partition(b"\n\n")
            head = re.sub(rb"\nContent-Transfer-Encoding: 8bit", b"", head)
            head += f"\nContent-Transfer-Encoding: {encoding}".encode()
            made.append(head + b"\n\n" + _encoded(encoding, body))
        return put(place, made)

    return transferred


def _crlf_in_base64(mails, place):
    made = []
    for mail in mails:
        head, _, body = mail.partition(b"\n\n")
        made.append(head + b"\n\n" + body.replace(b"\n", b"\r\n"))
    return _transfer("base64")(made, place)


def _of_a_list(mails, place):
    return put(place, [mail.replace(b"Subject: [PATCH", b"Subject: [U-Boot] [PATCH") for mail in mails])


def _of_patchwork(mails, place):
    return put(place, [re.sub(rb"Subject: \[PATCH (\S+)\]", rb"Subject: [v1,\1]", mail) for mail in mails])


def _attached(mails, place):
    return put(place, [_with_parts(mail, "text/x-patch") for mail in mails])


def _forwarded(mails, place):
    return put(place, [_with_parts(mail, "message/rfc822") for mail in mails])


def _with_parts(mail, kind):
    encoded = base64.encodebytes(mail) if kind != "message/rfc822" else mail.partition(b"\n")[2]
    coding = b"Content-Transfer-Encoding: base64\n" if kind != "message/rfc822" else b""
    return (
        b"From: someone@sand.example\nSubject: Here it is\nMIME-Version: 1.0\n"
        b"Content-Type: multipart/mixed; boundary=xx\n\n--xx\nContent-Type: text/plain\n\nSee below.\n"
        b"--xx\nContent-Type: " + kind.encode() + b"\n" + coding + b"\n" + encoded + b"\n--xx--\n"
    )


FORMS = {
    "a file": _one_file,
    "gzip": _gz,
    "a Maildir": _maildir,
    "standard input": _stdin,
    "no From lines": _without_from_lines,
    "reordered, and twice": _reordered_and_twice,
    "replies": _with_replies,
    "CRLF": _crlf,
    "quoted-printable": _transfer("quoted-printable"),
    "base64": _transfer("base64"),
    "base64 of CRLF": _crlf_in_base64,
    "a list's prefix": _of_a_list,
    "patchwork's prefix": _of_patchwork,
    "whole mails attached": _attached,
    "mails forwarded": _forwarded,
}


@pytest.fixture(scope="module")
def plain(shared_topic, posted, tmp_path_factory):
    return applied(shared_topic, put(tmp_path_factory.mktemp("plain") / "mails", posted))


@pytest.mark.parametrize("form", FORMS)
def test_the_same_mails_are_the_same_commits_in_any_form(shared_topic, posted, plain, tmp_path, monkeypatch, form):
    extra = [monkeypatch] if form == "standard input" else []
    made = applied(shared_topic, FORMS[form](posted, tmp_path / "form", *extra))
    assert made.commits == plain.commits
    assert [one.mail.message_id for one in made.series.patches] == [
        one.mail.message_id for one in plain.series.patches
    ]


@pytest.mark.parametrize(
    ("charset", "encoding", "word"),
    [
        ("koi8-r", "koi8-r", "больше"),
        ("iso-8859-1", "latin-1", "größer"),
        ("no-such", "latin-1", "größer"),
        ("unknown-8bit", "utf-8", "größer"),
        ("", "latin-1", "größer"),
        ("", "utf-8", "größer"),
    ],
)
def test_a_message_in_another_character_set_is_read(shared_topic, posted, tmp_path, charset, encoding, word):
    head, _, body = posted[1].partition(b"\n\n")
    kind = f"text/plain; charset={charset}" if charset else "text/plain"
    head = re.sub(rb"(Content-Type): .*", rb"\1: " + kind.encode(), head)
    text, diff, rest = body.partition(b"\n---\n")
    mail = head + b"\n\n" + text.decode().replace("größer", word).encode(encoding) + diff + rest
    made = applied(shared_topic, put(tmp_path / "mails", [mail, *posted[2:]]))
    assert f"it is {word}:" in git(shared_topic.repo, "log", "-1", "--format=%B", made.commits[1].hash)


@pytest.mark.parametrize(
    "options", [["--attach"], ["--inline"], ["--no-prefix"], ["--from=Sender <s@sand.example>"]]
)
def test_what_git_can_put_into_a_patch_comes_out(topic, tmp_path, options, caplog):
    git(topic.repo, "rm", "-q", "one")
    git(topic.repo, "mv", "many", "more")
    (topic.repo / "link").symlink_to("more")
    (topic.repo / "bytes").write_bytes(bytes(range(256)))
    (topic.repo / "script").write_text("#!/bin/sh\n")
    (topic.repo / "script").chmod(0o755)
    topic.commit("All of it", more=lines(_2="two"), empty="")
    (topic.repo / "script").chmod(0o644)
    topic.commit("Less of it", bytes="text\n")
    mails = topic.mails("--binary", "-M", *options, tips="main~2..main")
    made = applied(topic, put(tmp_path / "mails", mails), onto="main~2")
    assert [commit.tree for commit in made.commits[1:]] == topic.trees("main~2..main")
    assert git(topic.repo, "log", "-1", "--format=%an", made.commits[1].hash) == "Jürgen Größe"
    assert not caplog.messages


def test_a_patch_is_merged_where_its_lines_have_moved(topic, posted, tmp_path):
    topic.commit("Lines before them", many="a\nb\nc\nd\n" + lines(_4="another neighbour"))
    mails = put(tmp_path / "mails", topic.mails(tips="topic~2..topic"))
    merged = applied(topic, mails)
    assert (
        git(topic.repo, "show", f"{merged.commits[-1].hash}:many")
        == ("a\nb\nc\nd\n" + lines(_4="another neighbour", _9="9")).strip()
    )


def test_one_that_is_in_the_base_already_is_an_empty_commit_and_said(topic, posted, tmp_path, caplog):
    git(topic.repo, "reset", "-q", "--hard", "topic~2")
    made = applied(topic, put(tmp_path / "mails", posted))
    assert [commit.number for commit in made.commits] == [1, 2, 3, 4]
    assert made.commits[0].tree == made.commits[1].tree
    assert made.commits[3].tree == topic.trees()[-1]
    (said,) = caplog.messages
    assert "patch 1/3 ('many: Überall größer') changes nothing: it is in" in said


def test_a_repository_that_cannot_be_written_to_gets_no_object(shared_topic, posted, plain, tmp_path):
    objects = shared_topic.repo / ".git" / "objects"
    source = Source(shared_topic.repo, shared_topic.repo / ".git", _SpareObjects(objects))
    before = sorted(objects.rglob("*"))
    mails = put(tmp_path / "mails", [posted[0], *(mail.replace(b"Add a file", b"Add one") for mail in posted[1:])])
    made = apply_mails(source, str(mails))
    assert made.commits[-1].hash != plain.commits[-1].hash
    assert sorted(objects.rglob("*")) == before
    assert source.git.text("log", "-1", "--format=%s", made.commits[-1].hash) == "new: Add one"


def refused(topic, mails, **options) -> str:
    with pytest.raises(SourceError) as caught:
        applied(topic, mails, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_conflict_names_the_patch_the_base_the_files_and_a_branch_that_would_do(topic, posted, tmp_path):
    git(topic.repo, "branch", "stable")
    tip = topic.commit("Another third line", many=lines(_3="another"))
    assert refused(topic, put(tmp_path / "mails", posted)) == (
        f"patch 1/3 ('many: Überall größer') cannot be applied on {tip[:12]} (HEAD): git apply --3way: conflicts in "
        "many; stable has the files that the series changes: --onto stable"
    )


def test_a_patch_for_another_file_says_what_git_says_and_asks_for_its_base(topic, tmp_path):
    topic.commit("Another file", other=lines())
    topic.commit("Change it", other=lines(_2="two"))
    mails = put(tmp_path / "mails", topic.mails(tips="HEAD~1..HEAD"))
    git(topic.repo, "reset", "-q", "--hard", "HEAD~2")
    said = refused(topic, mails)
    assert (
        "git apply: error: other: does not exist in index; name the commit that it was made for with --onto" in said
    )


def test_the_base_is_that_of_the_option_then_that_of_the_mails_then_head(topic, tmp_path, caplog):
    base = git(topic.repo, "rev-parse", "main")
    mails = put(tmp_path / "mails", topic.mails("--base=main"))
    lost = [mail.replace(base.encode(), b"0123456789" * 4) for mail in topic.mails("--base=main")]
    topic.commit("Another file", other="")
    head = git(topic.repo, "rev-parse", "HEAD")
    assert (applied(topic, mails).named, applied(topic, mails).commits[0].hash) == ("base-commit", base)
    named = applied(topic, mails, onto="HEAD")
    assert (named.named, named.commits[0].hash) == ("--onto", head)
    assert not caplog.messages
    made = applied(topic, put(tmp_path / "lost", lost))
    assert (made.named, made.commits[0].hash) == ("HEAD", head)
    assert caplog.messages == [f"base-commit 012345678901 is not in {topic.repo}; applied on HEAD"]


def test_a_base_commit_that_is_not_here_is_what_would_help(topic, tmp_path, caplog):
    lost = [
        re.sub(rb"base-commit: \w+", b"base-commit: " + b"01" * 20, mail) for mail in topic.mails("--base=main")
    ]
    git(topic.repo, "checkout", "-q", "--orphan", "elsewhere")
    topic.commit("Another", many=lines(_3="another"))
    git(topic.repo, "branch", "-D", "main", "topic")
    said = refused(topic, put(tmp_path / "mails", lost))
    assert said.endswith(
        "conflicts in many; fetch its base-commit, or name the commit that it was made for with --onto"
    )


def test_patches_that_others_must_precede_are_counted(topic, tmp_path, caplog):
    first, last = "topic~2..topic~1", "topic~1..topic"
    assert len(topic.mails(tips=first)) == 1
    mails = topic.mails("--base=main", tips=last)
    assert applied(topic, put(tmp_path / "mails", mails), onto="topic~1").named == "--onto"
    assert caplog.messages == ["the series says that it needs 2 other patches before it"]


@pytest.mark.parametrize("onto", ["main..topic", "nothing", "-x", ""])
def test_a_base_that_is_no_commit_is_refused(topic, posted, tmp_path, onto):
    mails = put(tmp_path / "mails", posted)
    if onto:
        assert onto in refused(topic, mails, onto=onto)
    else:
        git(topic.repo, "checkout", "-q", "--orphan", "unborn")
        assert "HEAD" in refused(topic, mails)


def damaged(mail: bytes, change) -> bytes:
    head, diff, rest = mail.partition(b"\ndiff --git")
    return head + diff + change(rest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(b"\n line 2\n", b"\n line\n2\n"), "a mail program has broken its lines: ask"),
        (lambda text: text.replace(b"\n line 2\n", b"\n line\t2\n"), "a mail program has changed its tabs and blanks"),
        (lambda text: text.replace(b"\n line 2\n", b"\n lime 2\n"), "its mail was changed on its way"),
    ],
)  # fmt: skip
def test_what_a_mail_program_did_to_a_patch_is_said(topic, posted, tmp_path, change, words):
    mail = damaged(posted[1], change)
    assert mail != posted[1]
    said = refused(topic, put(tmp_path / "mails", [mail, *posted[2:]]))
    assert words in said
    assert said.endswith("its author to send it by `git send-email`")


def flowed(mail: bytes) -> bytes:
    """Return a mail as format=flowed has it: blanks stuffed, a long line broken after a blank."""
    head, _, body = mail.partition(b"\n\n")
    lines = body.replace(b"12 is", b"12 \nis").splitlines(keepends=True)
    stuffed = [b" " + line if line.startswith((b" ", b">", b"From ")) else line for line in lines]
    kind = b"\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8;\n format=flowed\n\n"
    return head + kind + b"".join(stuffed)


@pytest.fixture
def long_line(topic):
    topic.commit("Long", long="line 12 is rather long\nthe next\n")
    (mail,) = topic.mails(tips="HEAD~1..HEAD")
    git(topic.repo, "reset", "-q", "--hard", "HEAD~1")
    return mail


def test_lines_that_format_flowed_broke_are_joined_again(topic, long_line, tmp_path, caplog):
    made = applied(topic, put(tmp_path / "mails", [flowed(long_line)]))
    assert git(topic.repo, "show", f"{made.commits[-1].hash}:long") == "line 12 is rather long\nthe next"
    assert not caplog.messages


def test_lines_that_cannot_be_joined_again_are_said(topic, long_line, tmp_path):
    mail = flowed(long_line).replace(b"12 \n", b"12\n")
    assert "a mail program has broken its lines (it is format=flowed)" in refused(
        topic, put(tmp_path / "m", [mail])
    )


def test_a_patch_that_applies_but_makes_another_file_than_its_author_had_is_said(
    topic, long_line, tmp_path, caplog
):
    # git takes what follows the last line of a patch for text of the mail.
    mail = long_line.replace(b"+the next", b"+the\nnext")
    assert mail != long_line
    applied(topic, put(tmp_path / "mails", [mail]))
    assert caplog.messages == [
        "patch ('Long') does not make of long what its author had: its mail was changed on its way, or by hand"
    ]


HOSTILE = """
[apply]
	whitespace = fix
	ignoreWhitespace = change
[mailinfo]
	scissors = true
	quotedCr = strip
[rerere]
	enabled = true
	autoupdate = true
[core]
	hooksPath = {hooks}
	autocrlf = true
	sparseCheckout = true
	splitIndex = true
	logAllRefUpdates = always
[index]
	sparse = true
[i18n]
	commitEncoding = ISO-8859-1
	logOutputEncoding = ISO-8859-1
[commit]
	gpgSign = true
[user]
	name = Another
"""


def every_file(place) -> dict[str, bytes]:
    """Return all files of a repository but the objects."""
    paths = (path for path in place.rglob("*") if path.is_file() and "objects" not in path.parts)
    return {str(path): path.read_bytes() for path in paths}


def test_neither_settings_nor_hooks_of_the_user_matter_and_nothing_of_theirs_is_touched(
    topic, posted, tmp_path, home
):
    topic.commit("Conflict", many=lines(_3="another"))
    mails = put(tmp_path / "mails", posted)
    expected = applied(topic, mails, onto="HEAD~1")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-applypatch", "applypatch-msg", "post-index-change", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\nexit 1\n")
        (hooks / name).chmod(0o755)
    (home / ".gitconfig").write_text(HOSTILE.format(hooks=hooks))
    (topic.repo / "many").write_text("an edit\n")
    before = every_file(topic.repo)
    assert applied(topic, mails, onto="HEAD~1").commits == expected.commits
    assert "conflicts in many" in refused(topic, mails)
    blanks = damaged(posted[1], lambda text: text.replace(b" line 2\n", b" line\t2\n"))
    said = refused(topic, put(tmp_path / "blanks", [blanks, *posted[2:]]), onto="HEAD~1")
    assert "changed its tabs and blanks" in said
    assert every_file(topic.repo) == before
    assert not (tmp_path / "hooked").exists()
