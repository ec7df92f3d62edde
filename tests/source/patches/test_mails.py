"""Mails are read from whatever holds them, their headers decoded, and what is no mail is said to be none."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.errors import SourceError
from fabbuild.source.git import Git
from fabbuild.source.patches import mails as module
from fabbuild.source.patches.mails import Mail, _with_attached, read_mails
from fabbuild.source.patches.series import choose_series

PATCH = b"---\n x | 2 +-\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n-- \n2.39.5\n"
MAIL = b"From: A <a@b.example>\nSubject: [PATCH] a\nMessage-ID: <1@b.example>\n\nText.\n" + PATCH


def read(tmp_path, name):
    return read_mails(str(tmp_path / name), Git(tmp_path))


def test_headers_are_decoded_and_in_one_line_each():
    mail = Mail.parse(
        b"From: =?UTF-8?q?J=C3=BCrgen?= <j@b.example>\nTo: one@b.example,\n\ttwo@b.example\nTo: three@b.example\n"
        b"Cc: =?iso-8859-1?q?Gr=F6=DFe?= <g@b.example>\nSubject: [PATCH]\n =?UTF-8?b?w7xiZXI=?= it\n"
        b"Message-Id: <1@b.example>\nIn-Reply-To: <c@b.example>\n"
        b"References: <a@b.example>\n <c@b.example>\nReply-To: list@b.example\nDate: Tue, 1 Dec 2026 04:33:16 +0000\n\n"
    )
    assert (mail.author, mail.to) == ("Jürgen <j@b.example>", "one@b.example, two@b.example, three@b.example")
    assert (mail.cc, mail.subject, mail.message_id) == ("Größe <g@b.example>", "[PATCH] über it", "<1@b.example>")
    assert mail.references == ("<a@b.example>", "<c@b.example>")
    assert (mail.reply_to, mail.date) == ("list@b.example", "Tue, 1 Dec 2026 04:33:16 +0000")


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        ("über".encode(), "über"),
        ("über".encode("latin-1"), "über"),
        (b"=?no-such?q?=FC?= it", "=?no-such?q?=FC?= it"),
        (b"=?utf-8?q?=FC?= it", "=?utf-8?q?=FC?= it"),
        (b"=?utf-8?b?x?= it", "=?utf-8?b?x?= it"),
    ],
)
def test_headers_that_break_the_rules_are_read_all_the_same(raw, subject):
    assert Mail.parse(b"Subject: " + raw + b"\n\n").subject == subject


def test_a_mailbox_is_split_at_its_mails_and_not_at_lines_that_begin_like_one(tmp_path):
    begin = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n"
    text = b"\n>From here it goes on.\nFrom there, too.\n>>From me\n"
    (tmp_path / "box").write_bytes(b"".join(begin + MAIL.replace(b"\nText.\n", text) + b"\n" for _ in range(2)))
    found = read(tmp_path, "box")
    assert [mail.subject for mail in found] == ["[PATCH] a"] * 2
    assert all(b"\nFrom here it goes on.\nFrom there, too.\n>From me\n" in mail.raw for mail in found)


def test_what_git_wrote_has_nothing_escaped(tmp_path):
    begin = b"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n"
    (tmp_path / "box").write_bytes((begin + MAIL.replace(b"Text.", b">From here on") + b"\n") * 2)
    found = read(tmp_path, "box")
    assert len(found) == 2
    assert all(b"\n>From here on\n" in mail.raw for mail in found)


def test_a_directory_is_read_in_the_order_of_numbers_and_what_is_no_mail_is_left_out(tmp_path):
    place = tmp_path / "d"
    place.mkdir()
    for number in (10, 9, 1):
        (place / f"{number}.eml").write_bytes(MAIL.replace(b"] a", b"] %d" % number))
    (place / "README").write_bytes(b"Read them.\n")
    (place / ".hidden").write_bytes(MAIL)
    (place / "empty").write_bytes(b"")
    (place / "below").mkdir()
    assert [mail.subject for mail in read(tmp_path, "d")] == ["[PATCH] 1", "[PATCH] 9", "[PATCH] 10"]


def test_a_cover_letter_that_b4_wrote_beside_the_patches_is_read_with_them(tmp_path):
    (tmp_path / "v2_a.mbx").write_bytes(MAIL)
    (tmp_path / "v2_a.cover").write_bytes(b"From: A <a@b.example>\nSubject: [PATCH v2 0/1] all\n\nText.\n")
    assert [mail.subject for mail in read(tmp_path, "v2_a.mbx")] == ["[PATCH v2 0/1] all", "[PATCH] a"]


def test_a_patch_in_html_is_none(tmp_path):
    html = MAIL.replace(b"\nMessage-ID", b"\nContent-Type: text/html\nMessage-ID")
    (tmp_path / "m").write_bytes(html)
    assert not read(tmp_path, "m")[0].has_patch()
    (tmp_path / "m").write_bytes(MAIL)
    assert read(tmp_path, "m")[0].has_patch()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file or directory: .*/m; --patches takes mails with patches"),
        (b"", "m: there is no mail; --patches takes mails"),
        (b"diff --git a/x b/x\n", "m: there is no mail"),
        (gzip.compress(MAIL, mtime=0)[:-9], "m: the end of the gzip file is missing"),
        (b"\x1f\x8bnothing", "m: not a gzip file that can be read: .*"),
        (
            gzip.compress(b"From: a\n\n" + b"x" * 2000, mtime=0),
            "m: more than 0 MB of mails; name those of one series",
        ),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, monkeypatch, content, words):
    monkeypatch.setattr(module, "MOST", 1000)
    if content is not None:
        (tmp_path / "m").write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        read(tmp_path, "m")
    assert "\n" not in str(caught.value)


_PIECES = [
    b"Content-Type: multipart/mixed; boundary=x\n", b"--x\n", b"Content-Type: message/rfc822; a*0*=b'c'%ff\n",
    b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: uuencode\n", b"\n\n", b"\r\n", b"\0",
    b"Content-Type: text/plain; charset=\xff\n", b"Subject: =?utf-8?b?/w==?= [PATCH 9/3]\n", b"Message-ID: \xff<\0>\n",
    b"Date: Foo, 99 Bar 99999999 99:99\n", MAIL,
]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=20), st.integers(0, 250)), max_size=8))
def test_whatever_a_mail_is_it_is_read_or_refused_in_one_line(changes):
    raw, at = bytearray(MAIL), 0
    for change in changes:
        if isinstance(change, int):
            at = change
        else:
            raw[at:at] = change
    said = ""
    try:
        choose_series(_with_attached(Mail.parse(bytes(raw))))
    except SourceError as exc:
        said = str(exc)
    assert "\n" not in said
