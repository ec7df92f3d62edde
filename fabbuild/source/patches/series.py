"""Choose among mails the patches of one series and its cover letter, in their order."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fabbuild.errors import SourceError
from fabbuild.source.patches.mails import Mail
from fabbuild.text import visible

_TAG = re.compile(r"\s*\[([^\]]*)\]")
_REPLY = re.compile(r"(\[[^\]]*\]\s*)*(re|aw|sv|antw|fwd?)\s*:", re.IGNORECASE)
_VERSION = re.compile(r"(?:PATCH|RFC)?v(\d{1,4})", re.IGNORECASE)
_PLACE = re.compile(r"(\d{1,4})/(\d{1,4})")

#: The subject that git gives a cover letter.
_BLANK = "*** SUBJECT HERE ***"


@dataclass(frozen=True)
class Posted:
    """A mail with what its subject says of it: ``[PATCH v2 3/5] arm: Fix it``.

    Attributes:
        mail: the mail.
        text: the subject without what stands in brackets before it.
        version: 1 where the subject has none.
        number: its place in the series, 0 for a cover letter; None where the subject has none.
        total: how many patches the series has; likewise.
    """

    mail: Mail
    text: str
    version: int = 1
    number: int | None = None
    total: int | None = None

    @classmethod
    def of(cls, mail: Mail) -> Posted:
        """Read the subject of a mail."""
        rest, words = mail.subject, ""
        while match := _TAG.match(rest):
            words, rest = f"{words} {match.group(1)}", rest[match.end() :]
        found = re.split(r"[\s,]+", words)
        version = next((int(match.group(1)) for word in found if (match := _VERSION.fullmatch(word))), 1)
        place = next((match for word in found if (match := _PLACE.fullmatch(word))), None)
        number, total = (int(place.group(1)), int(place.group(2))) if place else (None, None)
        return cls(mail, rest.strip(), version, number, total)

    @cached_property
    def has_patch(self) -> bool:
        """Whether there is a patch in the mail."""
        return self.mail.has_patch()

    @property
    def place(self) -> str:
        """The place in the series and the subject, for messages."""
        which = f" {self.number}/{self.total}" if self.total is not None else ""
        return f"patch{which} ({visible(self.text)!r})"

    @property
    def sent(self) -> float:
        """When it was sent, in seconds since the epoch; 0 if that is not known."""
        when = email.utils.parsedate_tz(self.mail.date)
        try:
            return email.utils.mktime_tz(when) if when else 0.0
        except (ValueError, OverflowError):
            return 0.0


@dataclass(frozen=True)
class Series:
    """The patches of one version of a series, in their order, and its cover letter if it has one."""

    patches: tuple[Posted, ...]
    cover: Posted | None = None

    @property
    def version(self) -> int:
        """The version, from 1."""
        return self.patches[0].version

    @property
    def first(self) -> Posted:
        """The mail that a reply to the whole series answers: the cover letter, else the first patch."""
        return self.cover or self.patches[0]

    @property
    def subject(self) -> str:
        """The subject of the cover letter, or of the first patch."""
        written = self.cover and self.cover.text not in ("", _BLANK)
        return self.cover.text if self.cover and written else self.patches[0].text

    @property
    def name(self) -> str:
        """The name of the series and its version, for a directory: ``arm-Fix-it-v2``."""
        words = re.sub(r"[^A-Za-z0-9_.]+", "-", self.subject)
        words = re.sub(r"\.\.+", ".", words)[:60].strip("-._")
        return f"{words or 'patches'}-v{self.version}"


def choose_series(mails: Iterable[Mail], version: int = 0) -> Series:
    """Return the series among the mails, by its newest version or the version asked for.

    Replies are left out, as are mails without a patch and duplicates. Of a patch that was sent twice, the later one
    counts. Patches without numbers are in the order of the mails.

    Args:
        mails: the mails.
        version: the version to take; 0 for the newest.

    Raises:
        SourceError: there is no patch, not this version, more than one series, or a patch of the series is missing.
    """
    posted = _different(Posted.of(mail) for mail in mails if not _REPLY.match(mail.subject))
    patches = [one for one in posted if one.number != 0 and one.has_patch]
    if not patches:
        raise SourceError("none of the mails has a patch; replies do not count")
    there = sorted({one.version for one in patches})
    wanted = version or there[-1]
    if wanted not in there:
        raise SourceError(f"--version {wanted}: the mails have {_versions(there)}")
    if not version:
        _check_related(posted, wanted)
    same = [one for one in posted if one.version == wanted]
    chosen = [one for one in patches if one.version == wanted]
    total = chosen[0].total
    other = next((one for one in chosen if one.total != total), None)
    if other:
        raise _several(chosen[0], other)
    if total is not None:
        chosen = _in_order(chosen)
        _check_complete(chosen, total, same, there)
    covers = [one for one in same if one.number == 0 and one.total == total]
    return Series(tuple(chosen), _latest(covers) if covers else None)


def _different(posted: Iterable[Posted]) -> list[Posted]:
    """Leave out mails that came twice, such as directly and through the list."""
    known: dict[object, Posted] = {}
    for one in posted:
        known.setdefault((one.mail.message_id or one.mail.raw, one.text), one)
    return list(known.values())


def _latest(posted: Sequence[Posted]) -> Posted:
    """Return the mail that was sent last, and check that they have one subject."""
    other = next((one for one in posted if one.text != posted[0].text), None)
    if other:
        raise _several(posted[0], other)
    return max(posted, key=lambda one: one.sent)


def _in_order(chosen: Sequence[Posted]) -> list[Posted]:
    places: dict[int, list[Posted]] = {}
    for one in chosen:
        places.setdefault(one.number or 0, []).append(one)
    return [_latest(places[number]) for number in sorted(places)]


def _check_complete(chosen: Sequence[Posted], total: int, same: Sequence[Posted], there: Sequence[int]) -> None:
    missing = sorted({*range(1, total + 1)} - {one.number for one in chosen})
    if not missing:
        return
    version = chosen[0].version
    empty = next((one for one in same if one.number in missing), None)
    why = f"the mail of {empty.place} has none in it" if empty else f"add {'them' if len(missing) > 1 else 'it'}"
    others = f", or take another version with --version: there are {_versions(there)}" if len(there) > 1 else ""
    which = ", ".join(f"{number}/{total}" for number in missing[:8]) + (" …" if len(missing) > 8 else "")
    raise SourceError(
        f"v{version} of the series lacks patch{'es' if len(missing) > 1 else ''} {which}: {why}{others}"
    )


def _check_related(posted: Sequence[Posted], wanted: int) -> None:
    """Check that other versions are of the series of this one: they share a subject or a thread with it."""
    newest = [one for one in posted if one.version == wanted]
    marks = {mark for one in newest for mark in _marks(one)}
    for version in {one.version for one in posted if one.version != wanted and one.has_patch}:
        older = [one for one in posted if one.version == version]
        if not marks & {mark for one in older for mark in _marks(one)}:
            raise _several(older[0], newest[0])


def _marks(one: Posted) -> tuple[str, ...]:
    return (one.text.lower(), *one.mail.references[:1], one.mail.message_id or one.text.lower())


def _several(one: Posted, other: Posted) -> SourceError:
    return SourceError(
        f"the mails are of more than one series: {one.place} (v{one.version}), and {other.place} "
        f"(v{other.version}); give those of one series, or choose a version with --version"
    )


def _versions(there: Sequence[int]) -> str:
    return ", ".join(f"v{version}" for version in there)
