"""For property tests: limit the examples where one takes long, and digest a tree as a board sees it."""

import hashlib
import os

from hypothesis import settings

from fabbuild.protocol import relevance


def at_most(count: int) -> int:
    """Give the profile's number of examples, but no more than ``count``."""
    return min(count, settings().max_examples)


def seen(listing, depends):
    """Return the digest of a tree as a board with these dependencies sees it."""
    records = (
        relevance.record(os.fsencode(path), *listing[path]) for path in sorted(set(depends)) if path in listing
    )
    return relevance.digest(relevance.common(listing), hashlib.sha256(b"".join(records)).digest())
