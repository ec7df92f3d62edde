"""The table of source suffixes: which programs read such a file, and what its change requires."""

from __future__ import annotations

from typing import NamedTuple


class SourceKind(NamedTuple):
    """Files of one suffix.

    Attributes:
        suffix: as it ends a name, such as ``.c``.
        tracked: every program that reads such a file during a build names it in a dependency file.
        recompiled: a new modification time makes Kbuild run a compiler, dtc or the preprocessor again, so that what
            it remarked about the file is repeated.
        searched: other files include it by a name that is looked up in several directories.
    """

    suffix: str
    tracked: bool = False
    recompiled: bool = False
    searched: bool = False


#: Source that is compiled, assembled, preprocessed or included. Scripts, Makefiles and Kconfig files are none.
SOURCE_KINDS = (
    SourceKind(".c", tracked=True, recompiled=True),
    SourceKind(".h", tracked=True, recompiled=True, searched=True),
    SourceKind(".S", tracked=True, recompiled=True),
    SourceKind(".s"),
    SourceKind(".dts", tracked=True, recompiled=True),
    SourceKind(".dtsi", tracked=True, recompiled=True, searched=True),
    SourceKind(".dtso", tracked=True, recompiled=True),
    SourceKind(".inc", searched=True),
    SourceKind(".lds", recompiled=True),
    SourceKind(".l"),
    SourceKind(".y"),
)

#: The suffixes of all kinds, and of the kinds with one of the properties, as `str.endswith` takes them.
SOURCE = tuple(kind.suffix for kind in SOURCE_KINDS)
TRACKED = tuple(kind.suffix for kind in SOURCE_KINDS if kind.tracked)
RECOMPILED = tuple(kind.suffix for kind in SOURCE_KINDS if kind.recompiled)
SEARCHED = tuple(kind.suffix for kind in SOURCE_KINDS if kind.searched)
