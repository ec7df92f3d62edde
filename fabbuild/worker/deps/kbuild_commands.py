r"""Read the files in which Kbuild keeps the command that made a product, and the files that it was made of.

fixdep writes such a file, ``.x.o.cmd``, beside each product of a compile::

    savedcmd_dir/x.o := gcc … -c -o dir/x.o ../dir/x.c

    source_dir/x.o := ../dir/x.c

    deps_dir/x.o := \
        $(wildcard include/config/A) \
      ../dir/x.h \

A file of the configuration's symbol stands in place of the header of all symbols.
"""

from __future__ import annotations

import os
import re
from typing import Mapping, NamedTuple, Optional, Tuple

_COMMAND = re.compile(r"^(?:saved)?cmd_\S+ := (.*)$", re.MULTILINE)
_SOURCE = re.compile(r"^source_\S+ := (\S+)$", re.MULTILINE)
_READ = re.compile(r"^deps_\S+ := \\\n((?:.*\\\n)*)", re.MULTILINE)
_STAMP = re.compile(r"\$\(wildcard ([^)]*)\)")

#: A command that makes a parser, with its source.
_PARSER = re.compile(r"^(?:saved)?cmd_\S+ := (?:bison|flex|yacc|lex) .*?(\.\./\S+\.[yl])\s*$", re.MULTILINE)


class Compile(NamedTuple):
    """What a product was made of, and how.

    Attributes:
        product: the product, relative to the output directory, as all files.
        read: the files that it was made of, the source first.
        stamps: the files of the symbols that these name.
        command: the command that made it.
    """

    product: str
    read: Tuple[str, ...]
    stamps: Tuple[str, ...]
    command: str


def command_file(product: str) -> str:
    """Return the path of the file about a product."""
    folder, name = os.path.split(product)
    return os.path.join(folder, ".%s.cmd" % name)


def product_of(name: str) -> str:
    """Return the base name of the product that a file is about, by its own; empty for any other file."""
    return name[1 : -len(".cmd")] if name.startswith(".") and name.endswith(".cmd") else ""


def read_compile(output: str, product: str) -> Optional[Compile]:
    """Return what is kept about a product of a compile; None if it is of another kind.

    Args:
        output: the output directory.
        product: the product, relative to it.

    Raises:
        OSError: the file cannot be read.
        UnicodeError: it is no UTF-8.
    """
    text = _text(output, product)
    source, read, command = (one.search(text) for one in (_SOURCE, _READ, _COMMAND))
    if not (source and read and command):
        return None
    others = _STAMP.sub("", read.group(1)).replace("\\\n", " ").split()
    return Compile(product, (source.group(1), *others), tuple(_STAMP.findall(read.group(1))), command.group(1))


def rename_files(output: str, product: str, renamed: Mapping[str, str]) -> None:
    """Have the file about a product name other files in place of some.

    Args:
        output: the output directory.
        product: the product, relative to it.
        renamed: the names, with those that are to stand there.

    Raises:
        OSError: the file cannot be read or written.
    """
    text = _text(output, product)
    with open(os.path.join(output, command_file(product)), "w", encoding="utf-8") as file:
        file.write(re.sub(r"\S+", lambda word: renamed.get(word.group(), word.group()), text))


def parser_source(output: str, product: str) -> str:
    """Return the source of a parser that bison or flex made, relative to the output; empty if a file is none.

    The arguments are those of `read_compile`.
    """
    try:
        found = _PARSER.match(_text(output, product))
    except (OSError, UnicodeError):
        return ""
    return found.group(1) if found else ""


def _text(output: str, product: str) -> str:
    with open(os.path.join(output, command_file(product)), encoding="utf-8") as file:
        return file.read()
