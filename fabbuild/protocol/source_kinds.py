"""Tell by a source file's name which programs read it, and what its change requires."""

from __future__ import annotations

from typing import NamedTuple


class SourceKind(NamedTuple):
    """Files of one suffix.

    Attributes:
        suffix: as it ends a name, such as ``.c``.
        recompiled: a new modification time makes Kbuild run a compiler, dtc or the preprocessor again, so that what
            it remarked about the file is repeated.
        searched: other files include it by a name that is looked up in several directories.
        has_object: Makefiles list an object of its name to have it compiled.
    """

    suffix: str
    recompiled: bool = False
    searched: bool = False
    has_object: bool = False


#: Source that is compiled, assembled, preprocessed or included. Scripts, Makefiles and Kconfig files are none.
SOURCE_KINDS = (
    SourceKind(".c", recompiled=True, has_object=True),
    SourceKind(".h", recompiled=True, searched=True),
    SourceKind(".S", recompiled=True, has_object=True),
    SourceKind(".s"),
    SourceKind(".dts", recompiled=True),
    SourceKind(".dtsi", recompiled=True, searched=True),
    SourceKind(".dtso", recompiled=True),
    SourceKind(".inc", searched=True),
    SourceKind(".lds", recompiled=True),
    SourceKind(".l"),
    SourceKind(".y"),
)

#: How the base names of files begin and end that make itself reads, or Kconfig.
_MAKEFILES = ("Makefile", "GNUmakefile", "Kbuild", "Kconfig")
_MAKEFILE_SUFFIXES = (".mk", ".make")

#: The suffixes of all kinds, and of the kinds with one of the properties, as `str.endswith` takes them.
SOURCE = tuple(kind.suffix for kind in SOURCE_KINDS)
RECOMPILED = tuple(kind.suffix for kind in SOURCE_KINDS if kind.recompiled)
SEARCHED = tuple(kind.suffix for kind in SOURCE_KINDS if kind.searched)
HAVE_OBJECTS = tuple(kind.suffix for kind in SOURCE_KINDS if kind.has_object)


def is_makefile(path: str) -> bool:
    """Return whether make or Kconfig reads a file of this name, at each run that needs it."""
    name = path.rpartition("/")[2]
    return name.startswith(_MAKEFILES) or name.endswith(_MAKEFILE_SUFFIXES)
