"""For property tests: limit the examples where one takes long, and digest a tree as a board sees it."""

from hypothesis import settings

from fabbuild.protocol import relevance


def at_most(count: int) -> int:
    """Give the profile's number of examples, but no more than ``count``."""
    return min(count, settings().max_examples)


def seen(listing, depends):
    """Return the digest of a tree as a board with these dependencies sees it."""
    return relevance.digest(relevance.common(listing), relevance.part(listing, sorted(set(depends))))
