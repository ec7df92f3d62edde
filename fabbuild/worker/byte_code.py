"""Keep a copy of this program with byte code: of a program in one file Python keeps none, and compiles it anew.

The copy is beside the program, or, like the digests of files, in the directory that `DIGESTS_DIR` names. It is made
by the first command that runs, for the Python that runs it.

The program's first lines import this module by its file name alone: once the package is imported, all its modules
come from where it was found.
"""

from __future__ import annotations

import os
import re
import sys

#: As in `fabbuild.protocol`, of which nothing can be imported here.
_PROGRAM = re.compile(r"worker-[0-9a-f]{64}\.pyz")
_DIGESTS_DIR = "FABBUILD_DIGESTS"


def compiled(program: str) -> str:
    """Return the path of the copy with byte code, made if there is none; the program itself if none can be made.

    Args:
        program: the path of the program.
    """
    folder, name = os.path.split(program)
    shared = os.environ.get(_DIGESTS_DIR)
    try:
        if shared:
            import hashlib

            with open(program, "rb") as file:
                folder, name = shared, "worker-%s.pyz" % hashlib.sha256(file.read()).hexdigest()
        elif not _PROGRAM.fullmatch(name):
            return program  # run from memory, or from a directory that is not ours
        path = os.path.join(folder, "%s.%s" % (name, sys.implementation.cache_tag))
        if not os.path.isfile(path):
            _write(program, path)
    except (OSError, ValueError):
        return program
    return path


def _write(program: str, path: str) -> None:
    import importlib.util
    import marshal
    import zipfile

    # Byte code that is not compared with its source: the copy's name has the digest of all source.
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    draft = "%s.%d" % (path, os.getpid())
    try:
        with zipfile.ZipFile(program) as source, open(draft, "xb", opener=_private) as file:
            with zipfile.ZipFile(file, "w") as copy:
                for info in source.infolist():
                    text = source.read(info)
                    copy.writestr(info, text)
                    code = compile(text, "%s/%s" % (path, info.filename), "exec", dont_inherit=True)
                    copy.writestr(info.filename + "c", header + marshal.dumps(code))
            file.flush()
            # What a crash of the machine leaves of it must not pass for the whole.
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        if os.path.exists(draft):
            os.unlink(draft)
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
