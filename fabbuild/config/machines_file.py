"""Read and check machines.yaml: the machines, and the settings of all machines.

::

    machines:
      NAME:
        host: [user@]name[:port]        # or connection: local
        connection: fabric              # or openssh: by the ssh program
        threads: N                      # cores to use
        max_boards: N                   # boards at once; slots: N says the same
        work_dir: PATH
        outputs: SIZE                   # most bytes of kept output directories
        toolchains: {ARCH: prefix or path of gcc}
        env: {NAME: text}
        groups: [NAME, …]
        enabled: true
        fit: {…}                        # as below, for this machine
        worker_command: text
    defaults: {…}                       # the same keys, but host and connection: local
    toolchains: {prefixes: {ARCH: prefix}, paths: [DIRECTORY, …], url: URL of archives to fetch}
    fit: {max_load_per_cpu: 0.8, min_mem_mb: 512, min_disk_mb: 1000}
    build: {…}                          # options of build

Every mistake is a `ConfigError` that names the file, the line, the key, its value and the allowed values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from fabbuild.config.kinds import SIZE, VARIABLE_NAME, check_toolchain
from fabbuild.config.machines import ALL, Fit, Machine, Machines, ToolchainSearch, address, split_host
from fabbuild.config.settings import MAX_BOARDS, MAX_THREADS, NOT_IN_FILE, OPTIONS, check_option, unknown_option
from fabbuild.config.wording import nearest, quote, visible
from fabbuild.config.yaml_lines import Item, describe, load_yaml
from fabbuild.errors import ConfigError
from fabbuild.protocol import sizes

#: The smallest file that is one; shown where there is none, or an empty one.
BEGIN_WITH = "machines: {local: {connection: local}}"

# Keys whose field of `Machine` has another name; slots is buildman's name of max_boards.
_OTHER_NAMES = {"slots": "max_boards"}

# The fields of `Machine` that each value of connection stands for.
_CONNECTIONS = {
    "local": {"local": True, "openssh": False},
    "fabric": {"openssh": False},
    "openssh": {"openssh": True},
}

_NAME = re.compile(r"(?![.-])[\w.+@-]{1,64}")


def load_machines(path: Path) -> Machines:
    """Read and check machines.yaml.

    Raises:
        ConfigError: the file cannot be read, or for the first mistake in it. There is no other exception.
    """
    root = load_yaml(path)
    if root is None:
        raise ConfigError(f"{path}: is empty; to begin with, write into it: {BEGIN_WITH}")
    return _File(path).machines(root)


class _File:
    """The schema: each method checks one value and returns it typed; ``where`` is the key path for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.common_fit = Fit()

    def fail(self, line: int, words: str) -> NoReturn:
        raise ConfigError(f"{self.path}:{line}: {words}")

    def wrong(self, item: Item, where: str, allowed: str) -> NoReturn:
        self.fail(item.line, f"{visible(where)} is {describe(item)}; it must be {allowed}")

    def keys(self, item: Item, where: str, known: Iterable[str]) -> dict[str, Item]:
        """Return the items of a mapping whose keys are all known; an empty value counts as an empty mapping."""
        items = self.mapping(item, where)
        known = sorted(known)
        for key, below in items.items():
            if key not in known:
                place = f"in {visible(where)}" if where else "at the top"
                near = nearest(key.replace("-", "_"), known)
                self.fail(
                    below.key_line, f"unknown key {quote(key)} {place}{near}; known here are {', '.join(known)}"
                )
        return items

    def mapping(self, item: Item, where: str) -> dict[str, Item]:
        if item.value is None and where:
            return {}
        if not isinstance(item.value, dict):
            if not where:
                self.fail(item.line, f"the file is {describe(item)}; it must be a mapping with the key machines")
            self.wrong(item, where, "a mapping")
        return item.value

    # --- the parts ---

    def machines(self, root: Item) -> Machines:
        top = self.keys(root, "", ["machines", "defaults", "toolchains", "fit", "build"])
        self.common_fit = self.fit(top["fit"], "fit") if "fit" in top else Fit()
        defaults: dict[str, Any] = {}
        if "defaults" in top:
            items = self.mapping(top["defaults"], "defaults")
            defaults = self.machine_fields(top["defaults"], "defaults")
            for key, field in (("host", "host"), ("connection", "local")):
                if field in defaults:
                    self.fail(items[key].key_line, f"defaults.{key}: every machine has its own; write it there")
        if "machines" not in top or not self.mapping(top["machines"], "machines"):
            line = top["machines"].line if "machines" in top else root.line
            self.fail(line, f"there are no machines; to begin with, write: {BEGIN_WITH}")
        machines: dict[str, Machine] = {}
        for name, item in self.mapping(top["machines"], "machines").items():
            machines[name] = self.machine(name, item, defaults)
        self.compare(machines, top["machines"])
        return Machines(
            machines=machines,
            toolchains=self.search(top["toolchains"]) if "toolchains" in top else ToolchainSearch(),
            fit=self.common_fit,
            build=self.build(top["build"]) if "build" in top else {},
            path=self.path,
            template=Machine("", **defaults),
        )

    def machine(self, name: str, item: Item, defaults: Mapping[str, Any]) -> Machine:
        where = f"machines.{name}"
        if not _NAME.fullmatch(name) or name == ALL:
            reserved = f" ({ALL} means every machine)" if name == ALL else ""
            self.fail(
                item.key_line,
                f"machines: {quote(name)} cannot be a machine's name{reserved}; it must be up to 64 letters, "
                "digits and '_', '.', '+', '@', '-', and begin with neither '.' nor '-'",
            )
        fields = self.machine_fields(item, where)
        if ("host" in fields) == ("local" in fields):
            both = "both host and connection: local" if "host" in fields else "neither host nor connection: local"
            self.fail(
                item.key_line, f"{where} has {both}; it must have host: [user@]name[:port], or connection: local"
            )
        merged = {**defaults, **fields}
        for key in ("toolchains", "env"):
            if key in defaults and key in fields:
                merged[key] = {**defaults[key], **fields[key]}
        return Machine(name, line=item.key_line, **merged)

    def machine_fields(self, item: Item, where: str) -> dict[str, Any]:
        """Check a machine, or the defaults; return the fields of `Machine` that are given."""
        kinds: dict[str, Callable[[Item, str], Any]] = {
            "host": self.host,
            "connection": self.connection,
            "threads": lambda below, at: self.whole(below, at, 1, MAX_THREADS),
            "max_boards": lambda below, at: self.whole(below, at, 1, MAX_BOARDS),
            "slots": lambda below, at: self.whole(below, at, 1, MAX_BOARDS),
            "work_dir": lambda below, at: self.directory(below, at) if below.value != "" else "",
            "outputs": self.size,
            "toolchains": self.toolchains,
            "env": self.env,
            "groups": self.groups,
            "fit": self.fit,
            "enabled": self.flag,
            "worker_command": self.text,
        }
        fields: dict[str, Any] = {}
        for key, below in self.keys(item, where, kinds).items():
            if key == "connection":
                fields.update(self.connection(below, f"{where}.{key}"))
                continue
            name = _OTHER_NAMES.get(key, key)
            if name in fields:
                self.fail(below.key_line, f"{where} has both max_boards and slots, which are the same; write one")
            fields[name] = kinds[key](below, f"{where}.{key}")
        return fields

    def compare(self, machines: Mapping[str, Machine], item: Item) -> None:
        """Check machines against each other: no address or work directory twice, no group named as a machine."""
        seen: dict[tuple[object, ...], Machine] = {}
        for machine in machines.values():
            if machine.host:
                same: tuple[object, ...] = address(machine.host)
                words = f"{machine.host} is the address of"
            else:
                # Path.expanduser raises where there is no home.
                place = os.path.expanduser(machine.work_dir)  # noqa: PTH111
                same = ("local", os.path.normpath(place))
                words = "this machine with the same work_dir is"
            first = seen.setdefault(same, machine)
            if first is not machine:
                below = item.value[machine.name]
                line = below.value["host"].line if machine.host else machine.line
                self.fail(line, f"machines.{machine.name}: {words} machines.{first.name}, too (line {first.line})")
            for group in machine.groups:
                if group in machines:
                    self.fail(machine.line, f"machines.{machine.name}.groups: {group} is the name of a machine")

    def search(self, item: Item) -> ToolchainSearch:
        items = self.keys(item, "toolchains", ["prefixes", "paths", "url"])
        prefixes = self.toolchains(items["prefixes"], "toolchains.prefixes") if "prefixes" in items else {}
        paths = self.sequence(items["paths"], "toolchains.paths") if "paths" in items else []
        return ToolchainSearch(
            prefixes,
            tuple(self.directory(below, f"toolchains.paths[{i}]") for i, below in enumerate(paths)),
            self.url(items["url"], "toolchains.url") if "url" in items else "",
        )

    def fit(self, item: Item, where: str) -> Fit:
        """Check the minimum for a machine to be used; a missing value is that of all machines."""
        items = self.keys(item, where, ["max_load_per_cpu", "min_mem_mb", "min_disk_mb"])
        fields: dict[str, Any] = {}
        for key, below in items.items():
            if key == "max_load_per_cpu":
                value = below.value
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1e6:
                    self.wrong(below, f"{where}.{key}", "a number above 0, such as 0.8")
                fields[key] = float(value)
            else:
                fields[key] = self.whole(below, f"{where}.{key}", 0, 10**9)
        return replace(self.common_fit, **fields)

    def build(self, item: Item) -> dict[str, object]:
        options: dict[str, object] = {}
        allowed = [name for name in OPTIONS if name not in NOT_IN_FILE]
        for name, below in self.mapping(item, "build").items():
            if name not in allowed:
                self.fail(below.key_line, f"build: {unknown_option(name, allowed)}")
            try:
                value = check_option(name, below.plain(), texts=False)
            except ValueError as exc:
                self.fail(below.line, f"build.{name} {exc}")
            if value is not None:
                options[name] = value
        return options

    # --- kinds of values ---

    def text(self, item: Item, where: str) -> str:
        value = item.value
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self.wrong(item, where, "text without control characters")
        return value

    def flag(self, item: Item, where: str) -> bool:
        if not isinstance(item.value, bool):
            self.wrong(item, where, "true or false")
        return item.value

    def whole(self, item: Item, where: str, least: int, most: int) -> int:
        value = item.value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            hint = ", without quotes" if isinstance(value, str) and value.isdigit() else ""
            self.wrong(item, where, f"a whole number from {least} to {most}{hint}")
        return value

    def sequence(self, item: Item, where: str) -> list[Item]:
        if item.value is None:
            return []
        if not isinstance(item.value, list):
            self.wrong(item, where, "a list: [one, two]")
        return item.value

    def size(self, item: Item, where: str) -> str:
        try:
            return str(SIZE.read(item.plain(), False))
        except ValueError:
            self.wrong(item, where, f"a size: {sizes.WORDS}")

    def host(self, item: Item, where: str) -> str:
        if not isinstance(item.value, str):
            self.wrong(item, where, "text: [user@]name[:port], in quotes")
        try:
            split_host(item.value)
        except ConfigError as exc:
            self.fail(item.line, f"{where}: {exc}")
        return item.value

    def connection(self, item: Item, where: str) -> dict[str, bool]:
        if item.value not in _CONNECTIONS:
            self.wrong(
                item,
                where,
                "local (a worker on this machine, without SSH), openssh (by the ssh program), or fabric",
            )
        return _CONNECTIONS[item.value]

    def directory(self, item: Item, where: str) -> str:
        value = item.value
        allowed = "an absolute path or one that begins with ~/"
        if not isinstance(value, str) or not value.isprintable() or not value.startswith(("/", "~/")):
            self.wrong(item, where, allowed)
        if os.path.normpath(value) in {"/", "//", "~", "."}:
            self.wrong(item, where, f"{allowed}, and below it")
        return value

    def url(self, item: Item, where: str) -> str:
        value = item.value
        if not isinstance(value, str) or not re.fullmatch(r"https?://[!-~]+", value):
            self.wrong(item, where, "an address that begins with https:// or http://")
        return value

    def toolchains(self, item: Item, where: str) -> dict[str, str]:
        for arch, below in self.mapping(item, where).items():
            try:
                check_toolchain(arch, below.plain())
            except ValueError as exc:
                self.fail(below.line, f"{visible(where)}.{visible(arch)} {exc}")
        return {arch: below.value for arch, below in self.mapping(item, where).items()}

    def env(self, item: Item, where: str) -> dict[str, str]:
        variables: dict[str, str] = {}
        for name, below in self.mapping(item, where).items():
            if not VARIABLE_NAME.fullmatch(name):
                self.fail(
                    below.key_line, f"{where}: {quote(name)} cannot be a variable's name: letters, digits and _"
                )
            value = below.value
            # Everybody writes numbers without quotes; the variable gets the number as it is written.
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                value = below.text
            if not isinstance(value, str) or "\0" in value:
                self.wrong(below, f"{where}.{name}", "text; in quotes where YAML takes it for something else")
            variables[name] = value
        return variables

    def groups(self, item: Item, where: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for i, below in enumerate(self.sequence(item, where)):
            if not isinstance(below.value, str) or not _NAME.fullmatch(below.value) or below.value == ALL:
                self.wrong(below, f"{where}[{i}]", f"a name, as a machine's, and not {ALL}")
            found[below.value] = None
        return tuple(found)
