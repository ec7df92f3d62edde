"""Read YAML as `yaml.safe_load` does, but with line numbers, and strictly.

A key that occurs twice is an error here (PyYAML takes the last), keys are text, and the size of aliases is limited.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fabbuild.config.wording import describe_value, quote, visible
from fabbuild.errors import ConfigError

if TYPE_CHECKING:
    import yaml

#: Largest file that is read, in bytes; the parser takes some seconds for that much.
MAX_BYTES = 256 * 1024

#: Most items that a file may have once its aliases are put in, and how deep they may be nested.
MAX_ITEMS = 20_000
MAX_DEPTH = 20

#: Longest number or date, in characters.
MAX_NUMBER = 400

_MERGE = "tag:yaml.org,2002:merge"
_DEFAULT = "tag:yaml.org,2002:value"


@dataclass(frozen=True)
class Item:
    """A value and its place in the file.

    ``value`` is a dict of str to `Item`, a list of `Item`, or the Python value of a scalar. ``text`` is a scalar as
    written. ``line`` counts from 1; ``key_line`` is the line of the value's key.
    """

    value: Any
    line: int
    text: str = ""
    key_line: int = 0

    def plain(self) -> Any:
        """Return the value with each item in it replaced by its value."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


def load_yaml(path: Path) -> Item | None:
    """Return the content of a file; None if it has nothing but comments.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or is not YAML; names file and line.
    """
    text = _read(path)
    import yaml

    reader = _Reader(path, text)
    try:
        return reader.read()
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        reader.fail(line, f"the character {text[exc.position]!r} is not allowed in YAML")
    except yaml.MarkedYAMLError as exc:
        reader.fail_yaml(exc)
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deep") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{visible(str(path))}: cannot be read: {getattr(exc, 'strerror', exc)}") from exc
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES // 1024} KiB, which no list of machines is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8: byte 0x{data[exc.start]:02x}; save it as UTF-8") from exc


class _Reader:
    """A reader that makes items of PyYAML's nodes."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.count = 0

    def read(self) -> Item | None:
        import yaml

        self.loader = yaml.SafeLoader(self.text)
        try:
            node = self.loader.get_single_node()
            item = None if node is None else self.item(node, "", 0)
        finally:
            self.loader.dispose()
        return item if item and item.value is not None else None

    def fail(self, line: int, words: str) -> NoReturn:
        raise ConfigError(f"{self.path}:{line}: {words}") from None

    def fail_yaml(self, exc: yaml.MarkedYAMLError) -> NoReturn:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        written = self.text.split("\n")[line - 1] if line <= self.text.count("\n") + 1 else ""
        if "\t" in written[: len(written) - len(written.lstrip())]:
            self.fail(line, "begins with a tab; YAML is indented by spaces only")
        problem = " ".join(str(exc.problem or exc.context or "not YAML").split())
        self.fail(line, f"is not YAML: {problem}")

    def item(self, node: yaml.Node, where: str, depth: int, key_line: int = 0) -> Item:
        import yaml

        line = node.start_mark.line + 1
        self.count += 1
        if self.count > MAX_ITEMS:
            self.fail(line, f"has more than {MAX_ITEMS} items, counting what its aliases stand for")
        if depth > MAX_DEPTH:
            self.fail(line, f"is nested more than {MAX_DEPTH} deep")
        if isinstance(node, yaml.MappingNode):
            if node.tag != self.loader.DEFAULT_MAPPING_TAG:
                self.fail(line, f"{at(where)}the tag {node.tag!r} is not allowed")
            return Item(self.mapping(node, where, depth), line, key_line=key_line)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != self.loader.DEFAULT_SEQUENCE_TAG:
                self.fail(line, f"{at(where)}the tag {node.tag!r} is not allowed")
            items = [self.item(child, f"{where}[{i}]", depth + 1) for i, child in enumerate(node.value)]
            return Item(items, line, key_line=key_line)
        return Item(self.scalar(node, where), line, text=str(node.value), key_line=key_line)

    def scalar(self, node: yaml.Node, where: str) -> Any:
        if node.tag == _DEFAULT:  # a lone "=", for which safe_load has no constructor
            return node.value
        if node.tag != self.loader.DEFAULT_SCALAR_TAG and len(node.value) > MAX_NUMBER:
            # A number that long could take minutes to make.
            self.fail(
                node.start_mark.line + 1, f"{at(where)}{quote(node.value)} is not a value; write it in quotes"
            )
        try:
            return self.loader.construct_object(node)
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError):
            # A text that looks like a number or a date to PyYAML, and is none.
            self.fail(
                node.start_mark.line + 1, f"{at(where)}{quote(node.value)} is not a value; write it in quotes"
            )

    def mapping(self, node: yaml.MappingNode, where: str, depth: int) -> dict[str, Item]:
        items: dict[str, Item] = {}
        merged: dict[str, Item] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                for name, item in self.merged(value_node, where, depth).items():
                    merged.setdefault(name, item)
                continue
            key = self.key(key_node, where)
            path = f"{where}.{key}" if where else key
            if key in items:
                self.fail(line, f"{visible(path)} stands there twice (first on line {items[key].key_line})")
            items[key] = self.item(value_node, path, depth + 1, key_line=line)
        return {**merged, **items}

    def merged(self, node: yaml.Node, where: str, depth: int) -> dict[str, Item]:
        """Return the items that ``<<`` merges in: of a mapping, or of a list of mappings; the first wins."""
        item = self.item(node, where, depth + 1)
        parts = item.value if isinstance(item.value, list) else [item]
        found: dict[str, Item] = {}
        for part in parts:
            if not isinstance(part.value, dict):
                self.fail(part.line, f"{at(where)}<< takes a mapping or a list of mappings, not {describe(part)}")
            for name, below in part.value.items():
                found.setdefault(name, below)
        return found

    def key(self, node: yaml.Node, where: str) -> str:
        import yaml

        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            self.fail(line, f"{at(where)}a key must be text")
        value = self.scalar(node, where)
        if not isinstance(value, str):
            kind = describe(Item(value, line, text=node.value))
            self.fail(
                line, f"{at(where)}the key {visible(str(node.value))} is {kind}; a key is text: write it in quotes"
            )
        return value


def at(where: str) -> str:
    """Return the beginning of a message about a key path; empty for the top of the file."""
    return f"{visible(where)}: " if where else ""


def describe(item: Item) -> str:
    """Describe an item for the person who wrote it."""
    value = item.value
    if isinstance(value, bool) and item.text.lower() != str(value).lower():
        return f"{describe_value(value)} (written {visible(item.text)})"
    if value == "":
        return "an empty text"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"the number {visible(item.text)}"
    if value is None or isinstance(value, (bool, str, dict, list)):
        return describe_value(value)
    return f"the {type(value).__name__} {visible(item.text)}"
