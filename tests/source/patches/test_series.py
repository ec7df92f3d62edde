"""Which mails are the series, in which order, in which version; and when that cannot be told."""

import pytest

from fabbuild.errors import SourceError
from fabbuild.source.patches.mails import Mail
from fabbuild.source.patches.series import Posted, choose_series

DIFF = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n"


def mail(subject, *, text=DIFF, number=0, follows="", date="Tue, 1 Dec 2026 04:{:02}:00 +0000", **headers) -> Mail:
    lines = {"From": "A <a@b.example>", "Subject": subject, "Date": date.format(number), **headers}
    if number:
        lines["Message-ID"] = f"<{number}@b.example>"
    if follows:
        lines["References"] = f"<{follows}@b.example>"
    head = "".join(f"{name}: {value}\n" for name, value in lines.items())
    return Mail.parse(f"{head}\nIt is better.\n---\n{text}".encode())


def subjects(*mails, version=0):
    return [one.mail.subject for one in choose_series(mails, version).patches]


@pytest.mark.parametrize(
    ("subject", "version", "number", "total", "text"),
    [
        ("[PATCH] arm: Fix it", 1, None, None, "arm: Fix it"),
        ("[PATCH 3/5] arm: Fix it", 1, 3, 5, "arm: Fix it"),
        ("[PATCH v2 03/15] arm: Fix it", 2, 3, 15, "arm: Fix it"),
        ("[PATCHv4 0/2] Fix it", 4, 0, 2, "Fix it"),
        ("[RFC PATCH V2 1/2] Fix it", 2, 1, 2, "Fix it"),
        ("[PATCH RESEND v3] Fix it", 3, None, None, "Fix it"),
        ("[PATCH next 1/2] Fix v5 [again]", 1, 1, 2, "Fix v5 [again]"),
        ("[U-Boot] [PATCH v2 1/2] Fix it", 2, 1, 2, "Fix it"),
        ("[U-Boot,v2,1/2] Fix it", 2, 1, 2, "Fix it"),
        ("[RFCv2,01/12] Fix it", 2, 1, 12, "Fix it"),
        ("Fix 1/2 of it", 1, None, None, "Fix 1/2 of it"),
    ],
)
def test_a_subject_tells_version_and_place(subject, version, number, total, text):
    posted = Posted.of(mail(subject))
    assert (posted.version, posted.number, posted.total, posted.text) == (version, number, total, text)


def test_patches_are_in_the_order_of_their_numbers_and_the_cover_letter_is_none(monkeypatch):
    made = choose_series(
        [mail("[PATCH 2/2] b"), mail("[PATCH 0/2] all", text=" x | 2 +-\n"), mail("[PATCH 1/2] a")]
    )
    assert [one.text for one in made.patches] == ["a", "b"]
    assert made.cover.text == made.subject == "all"


def test_patches_without_numbers_are_in_the_order_of_the_mails():
    assert subjects(mail("[PATCH] b"), mail("[PATCH] a"), mail("c")) == ["[PATCH] b", "[PATCH] a", "c"]


def test_replies_and_mails_without_patches_are_left_out_whatever_they_quote():
    assert subjects(
        mail("Re: [PATCH 1/1] a", number=1),
        mail("[PATCH 1/1] a", number=2),
        mail("[U-Boot] RE: [PATCH 1/1] a", number=3),
        mail("AW: [PATCH 1/1] a", number=4),
        mail("[PULL] a", text="nothing\n", number=5),
    ) == ["[PATCH 1/1] a"]


@pytest.mark.parametrize(("version", "taken"), [(0, "v10"), (10, "v10"), (2, "v2"), (1, "")])
def test_the_newest_version_counts_or_the_one_asked_for(version, taken):
    mails = [mail(f"[PATCH {tag}{n}/2] {name}") for tag in ("", "v2 ", "v10 ") for n, name in ((1, "a"), (2, "b"))]
    tag = f"{taken} " if taken else ""
    assert subjects(*mails, version=version) == [f"[PATCH {tag}1/2] a", f"[PATCH {tag}2/2] b"]


def test_a_version_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(SourceError, match=r"^--version 4: the mails have v1, v3$"):
        choose_series([mail("[PATCH] a"), mail("[PATCH v3] a")], 4)


def test_of_duplicates_one_counts_and_of_a_patch_sent_again_the_later():
    first, again = mail("[PATCH 1/1] a", number=3), mail("[PATCH RESEND 1/1] a", number=7)
    for mails in ([first, again], [again, first], [first, first, again, again]):
        assert subjects(*mails) == ["[PATCH RESEND 1/1] a"]
    assert subjects(first, mail("[U-Boot] [PATCH 1/1] a", number=3)) == ["[PATCH 1/1] a"]
    plain = mail("[PATCH] a")
    assert subjects(plain, plain) == ["[PATCH] a"]


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ([1, 3], "v1 of the series lacks patch 2/3: add it"),
        ([2], "v1 of the series lacks patches 1/3, 3/3: add them"),
    ],
)
def test_a_missing_patch_is_named(there, words):
    with pytest.raises(SourceError) as caught:
        choose_series([mail(f"[PATCH {number}/3] a{number}") for number in there])
    assert str(caught.value) == words


def test_a_mail_whose_patch_was_lost_is_named():
    with pytest.raises(SourceError, match=r"lacks patch 2/2: the mail of patch 2/2 \('b'\) has none in it$"):
        choose_series([mail("[PATCH 1/2] a"), mail("[PATCH 2/2] b", text="<html>\n")])


def test_a_new_version_of_one_patch_alone_leads_to_the_whole_one_before():
    mails = [mail("[PATCH 1/2] a"), mail("[PATCH 2/2] b"), mail("[PATCH v2 2/2] b")]
    with pytest.raises(
        SourceError, match=r"^v2 .* lacks patch 1/2: add it, or take .* --version: there are v1, v2$"
    ):
        choose_series(mails)


def test_nothing_but_talk_is_refused():
    with pytest.raises(SourceError, match="none of the mails has a patch; replies do not count"):
        choose_series([mail("Re: [PATCH] a"), mail("[PATCH 0/1] a", text="words\n")])


@pytest.mark.parametrize(
    "others",
    [
        [("[PATCH 1/2] c", 0), ("[PATCH 2/2] d", 0)],
        [("[PATCH 1/3] c", 0), ("[PATCH 2/3] d", 0), ("[PATCH 3/3] e", 0)],
        [("[PATCH] c", 0)],
        [("[PATCH v2 1/1] c", 0)],
    ],
)
def test_two_series_are_refused_with_a_patch_of_each(others):
    mails = [mail("[PATCH 1/2] a", number=1), mail("[PATCH 2/2] b", number=2, follows=1)]
    mails += [mail(subject, number=10 + at, follows=follows) for at, (subject, follows) in enumerate(others)]
    with pytest.raises(
        SourceError, match=r"the mails are of more than one series: patch .*'[ab]'.*, and patch .*'c'"
    ):
        choose_series(mails)


def test_a_version_is_one_of_the_series_by_a_subject_or_by_its_thread():
    old = [mail("[PATCH 0/1] Fix it", text="", number=1), mail("[PATCH 1/1] a", number=2, follows=1)]
    assert subjects(*old, mail("[PATCH v2] A")) == ["[PATCH v2] A"]
    assert subjects(*old, mail("[PATCH v2] Another way", number=3, follows=1)) == ["[PATCH v2] Another way"]
    unrelated = mail("[PATCH v2] Another way", number=3)
    with pytest.raises(SourceError, match="more than one series"):
        subjects(*old, unrelated)
    assert subjects(*old, unrelated, version=2) == ["[PATCH v2] Another way"]


@pytest.mark.parametrize(
    ("cover", "first", "name"),
    [
        ("", "arm: rk3399: Fix it, really!", "arm-rk3399-Fix-it-really-v1"),
        ("[PATCH 0/1] Support ../../ for a..b", "a", "Support-.-.-for-a.b-v1"),
        ("[PATCH 0/1] *** SUBJECT HERE ***", "a", "a-v1"),
        ("[PATCH 0/1] 修正", "a", "patches-v1"),
        ("[PATCH 0/1] -x.", "a", "x-v1"),
        ("[PATCH 0/1] " + "long " * 30, "a", "-".join(["long"] * 12) + "-v1"),
    ],
)
def test_the_name_is_made_of_the_subject_and_can_be_a_directory(cover, first, name):
    mails = [mail(cover, text="")] if cover else []
    assert choose_series([*mails, mail(f"[PATCH 1/1] {first}")]).name == name
