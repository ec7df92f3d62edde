"""The options of a build: from files, the environment and the command line to one frozen object."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabbuild.config.yaml_lines import nearest, quote, visible
from fabbuild.errors import ConfigError, UsageError
from fabbuild.protocol import dotconfig
from fabbuild.protocol.names import is_fragment, is_goal, is_pattern
from fabbuild.protocol.wire import OWN_SETTINGS, SETTINGS

#: Most a number of threads or of slots may be; far above any machine, far below what would break one.
MAX_THREADS = 4096
MAX_BOARDS = 1024

#: Longest ``wait``, in seconds: a week.
MAX_WAIT = 7 * 24 * 3600

_ARCH = re.compile(r"[a-z0-9_]+")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class BuildSettings:
    """All options of ``build``. The defaults mean: every board, the current source, every enabled machine.

    Attributes:
        boards: terms that select boards, by spaces or commas; ``a & b`` is and.
        exclude: comma list of expressions of which none may match.
        only: exact names.
        branch: build its commits since upstream, the upstream commit first.
        commits: build this range.
        count: build this many commits; 0 all.
        step: build every Nth commit; 0 the first and the last.
        source: directory of the source; empty the current one.
        output: directory of the results; empty is ``fabbuild-out`` beside the source.
        no_local: leave out machines with ``connection: local``.
        force: build what is already built.
        force_failures: build again what failed.
        reuse: take what was built before, here or on another branch, and what a commit cannot have changed.
        audit_reuse: build so many results of those, and compare.
        max_boards: boards at once on each machine; 0 as machines.yaml has it.
        threads: threads to use on each machine; 0 as machines.yaml has it.
        toolchain: ``ARCH=PREFIX`` or ``ARCH=path of gcc`` each; `toolchains` gives them as a mapping.
        ignore_warnings: exit with 0 when there are only warnings.
        wait: seconds to wait for a machine that another boss holds.
        one_pack: pack the source once for all machines that lack the same of it.
        timeout: seconds a board may take at one commit; 0: what the run learns it needs, and at least 900.
        silence: seconds without a sign of life after which a machine is given up, or a machine gives up its boss.
        patience: seconds to wait for a machine to come back when no other can build what is left.
        restarts: how often a machine may be lost within ten minutes before it is set aside for a while.
        strict_toolchains: refuse to build on machines whose tools differ.
        batch: divide the boards among the machines beforehand.
        backup: let machines with nothing to do take over parts of what others still build.
        order: ``longest``: like boards one after the other, the longest early enough; ``given``: by their names.
        no_lto: NO_LTO=1.
        allow_missing: BINMAN_ALLOW_MISSING=1.
        reproducible: SOURCE_DATE_EPOCH=0.
        werror: warnings are errors.
        mrproper: make mrproper before a board is configured.
        fallback_mrproper: make mrproper and try again after a failure.
        config_only: configure, but do not build.
        verbose_build: V=1.
        kconfig_check: configure anew when a Kconfig file changed.
        force_reconfig: configure anew at each commit.
        quick: do not try a failure again, nor have warnings repeated at the next commit.
        fragments: configuration fragments, by commas, made after the defconfig.
        adjust_cfg: settings of the configuration, ``~FOO``, ``FOO`` or ``FOO=val`` each, by commas too.
        target: what make is to make in place of everything.
        keep_outputs: have images, maps and device trees beside each result.
        keep: patterns of other files of the output directory to have there, by commas.
        jobserver: the builds of a machine share its threads.
        ccache: compile by way of ccache, where it is installed.
        light_tools: have nm and ar load no plugin that does nothing.
        debug_info: have debug information made even where nobody can see it.
        machines: names and groups of machines.yaml, by commas.
        hosts: hosts in no file, by commas.
        machines_file: path of machines.yaml.
        verbose_worker: let the workers tell on stderr what they do.
        quiet: show problems and the end only.
        json: show events as JSON lines.
    """

    boards: str = ""
    exclude: str = ""
    only: str = ""
    branch: str = ""
    commits: str = ""
    count: int = 0
    step: int = 1
    source: str = ""
    output: str = ""
    no_local: bool = False
    force: bool = False
    force_failures: bool = False
    reuse: bool = True
    audit_reuse: int = 0
    max_boards: int = 0
    threads: int = 0
    toolchain: tuple[str, ...] = ()
    ignore_warnings: bool = False
    wait: float = 0.0
    one_pack: bool = True
    timeout: float = 0.0
    silence: float = 30.0
    patience: float = 600.0
    restarts: int = 5
    strict_toolchains: bool = False
    batch: bool = False
    order: str = "longest"
    backup: bool = True
    no_lto: bool = False
    allow_missing: bool = False
    reproducible: bool = False
    werror: bool = False
    mrproper: bool = False
    fallback_mrproper: bool = False
    config_only: bool = False
    verbose_build: bool = False
    kconfig_check: bool = True
    force_reconfig: bool = False
    quick: bool = False
    fragments: str = ""
    adjust_cfg: tuple[str, ...] = ()
    target: str = ""
    keep_outputs: bool = False
    keep: str = ""
    jobserver: bool = True
    ccache: bool = False
    light_tools: bool = True
    debug_info: bool = False
    machines: str = ""
    hosts: str = ""
    machines_file: str = ""
    verbose_worker: bool = False
    quiet: bool = False
    json: bool = False

    @classmethod
    def merge(cls, layers: Sequence[tuple[str, Mapping[str, object]]]) -> BuildSettings:
        """Lay options over each other; later layers win.

        None, an empty text and an empty list mean "not given". Numbers and flags may be texts, as the environment
        gives them. The toolchains of all layers are kept; for one architecture the later layer wins.

        Args:
            layers: each with its origin as messages name it: a file, a configuration key, "the command line".

        Raises:
            ConfigError: an unknown option or a value that cannot be; names origin and option.
        """
        values: dict[str, Any] = {}
        for origin, layer in layers:
            if not hasattr(layer, "items"):
                raise ConfigError(f"{origin}: is {_describe(layer)}; it must be a mapping of options")
            for name, value in layer.items():
                if name not in OPTIONS:
                    raise ConfigError(f"{origin}: {unknown_option(name)}")
                try:
                    given = check_option(name, value, texts=True)
                except ValueError as exc:
                    raise ConfigError(f"{origin}: {name} {exc}") from None
                if given is None:
                    continue
                values[name] = (*values.get(name, ()), *given) if name in _REPEATED else given
        return cls(**values)

    def toolchains(self) -> dict[str, str]:
        """Give ``toolchain`` as architecture → prefix or path of gcc; the last one of an architecture counts."""
        return dict(entry.split("=", 1) for entry in self.toolchain)  # checked by `merge`

    def adjustments(self) -> dict[str, str]:
        """Give ``adjust_cfg`` as symbol, without ``CONFIG_``, → value, ``n`` for not set; the last one counts."""
        return {name: value for text in self.adjust_cfg for name, value in dotconfig.asked(text).items()}

    def wire_settings(self) -> dict[str, object]:
        """Give what a ``configure`` carries: a value for each of the protocol's settings, and for each of ours."""
        plain = {name: bool(getattr(self, option_of(name))) for name in SETTINGS}
        ours: dict[str, object] = {name: getattr(self, name) for name in OWN_SETTINGS}
        ours["fragments"] = _items(self.fragments)
        ours["keep"] = _items(self.keep)
        # In one order, so that the same settings name the same result.
        ours["adjust_cfg"] = [dotconfig.line(*one) for one in sorted(self.adjustments().items())]
        return {**plain, **ours}


_WIRE_NAMES = {"reproducible_builds": "reproducible", "warnings_as_errors": "werror", "force_build": "force"}


def option_of(setting: str) -> str:
    """Name the option of a setting of the wire."""
    return _WIRE_NAMES.get(setting, setting)


def read_count(name: str, value: object, default: int, most: int = 1_000_000) -> int:
    """Read the number that was given for an option of another task; ``default`` when none was.

    Raises:
        UsageError: it is none; names the option.
    """
    if value is None or value == "":
        return default
    try:
        return _count(value, most, texts=True)
    except ValueError as exc:
        raise UsageError(f"{name} {exc}") from None


#: Names of all options.
OPTIONS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(BuildSettings))

#: What the ``build:`` part of machines.yaml cannot say, for it is needed to find that file.
NOT_IN_FILE = frozenset({"machines_file"})

merge = BuildSettings.merge

#: Options that are one of some words.
CHOICES: Mapping[str, tuple[str, ...]] = {"order": ("longest", "given")}

_DEFAULTS = BuildSettings()
_LISTS = frozenset({"boards", "exclude", "only", "machines", "hosts", "fragments", "keep"})
_REPEATED = frozenset({"toolchain", "adjust_cfg"})
_MOST = {
    "max_boards": MAX_BOARDS,
    "threads": MAX_THREADS,
    "count": 1_000_000,
    "step": 1_000_000,
    "restarts": 1000,
    "audit_reuse": 1_000_000,
}

# Seconds; what is not named here is from 0 to MAX_WAIT.
_RANGE = {"silence": (1, 3600)}


def unknown_option(name: object, among: Iterable[str] = OPTIONS) -> str:
    """Say that there is no such option, and which one may be meant, or else which ones there are."""
    text = str(name)
    near = nearest(text.replace("-", "_"), among)
    return f"there is no option {quote(text)}{near or '; there are: ' + ', '.join(sorted(among))}"


def check_option(name: str, value: object, *, texts: bool) -> Any:
    """Give an option's value in the type of its field, or None for "not given".

    Args:
        name: one of `OPTIONS`.
        value: what was given.
        texts: whether a number or a flag may be given as text.

    Raises:
        ValueError: it cannot be; the text goes after the option's name: ``is …; it must be …``.
    """
    if value is None or value == "" or (isinstance(value, (list, tuple, dict)) and not value):
        return None
    default = getattr(_DEFAULTS, name)
    if name == "toolchain":
        return _toolchain_entries(value)
    if name == "adjust_cfg":
        return _adjustments(value)
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"is {_describe(value)}; it must be {' or '.join(CHOICES[name])}")
    if isinstance(default, bool):
        return _flag(value, texts=texts)
    if isinstance(default, float):
        return _seconds(value, *_RANGE.get(name, (0, MAX_WAIT)), texts=texts)
    if isinstance(default, int):
        return _count(value, _MOST[name], texts=texts)
    text = _text(value, lists=name in _LISTS)
    if name == "fragments":
        _check_fragments(text)
    if name == "keep":
        _check_patterns(text)
    if name == "target" and not is_goal(text):
        raise ValueError(f"is {_describe(text)}; it must be the name of a make target, such as u-boot.bin")
    return text


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _check_fragments(text: str) -> None:
    for item in _items(text):
        if not is_fragment(item):
            raise ValueError(
                f"has {_describe(item)}; it must be the name of a configuration fragment that make finds, such as "
                "debug.config"
            )


def _check_patterns(text: str) -> None:
    for item in _items(text):
        if not is_pattern(item):
            raise ValueError(
                f"has {_describe(item)}; it must be a pattern of files below make's output directory, such as "
                "spl/*.bin"
            )


def _adjustments(value: object) -> tuple[str, ...]:
    """Check ``~FOO``, ``FOO`` and ``FOO=val``, in texts or as a mapping of names to values."""
    if isinstance(value, Mapping):
        value = [
            f"~{name}" if item is False or item is None else f"{name}={'y' if item is True else item}"
            for name, item in value.items()
        ]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"is {_describe(value)}; it must be ~FOO, FOO or FOO=val, or a list of these")
    for text in texts:
        try:
            dotconfig.asked(text)
        except ValueError as exc:
            raise ValueError(f"has {_describe(str(exc))}; it must be ~FOO, FOO or FOO=val") from None
    return tuple(texts)


def parse_toolchains(entries: Iterable[str]) -> dict[str, str]:
    """Read ``ARCH=PREFIX`` or ``ARCH=path of gcc`` entries.

    Raises:
        ConfigError: one that is none of them, or an architecture twice.
    """
    try:
        return dict(entry.split("=", 1) for entry in _toolchain_entries(list(entries)))
    except ValueError as exc:
        raise ConfigError(f"--toolchain {exc}") from None


def check_toolchain(arch: object, value: object) -> str:
    """Give a toolchain's prefix or path when it can be one; ``sandbox`` may have an empty prefix.

    Raises:
        ValueError: it cannot be; the text begins with ``is``.
    """
    if not isinstance(arch, str) or not _ARCH.fullmatch(arch):
        raise ValueError(f"is for {quote(str(arch))}; an architecture is like arm, aarch64 or x86_64")
    if not isinstance(value, str) or not (value.strip() or arch == "sandbox") or not value.isprintable():
        raise ValueError(f"is {_describe(value)}; it must be a prefix (arm-linux-gnueabi-) or the path of a gcc")
    return value


def _toolchain_entries(value: object) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return tuple(f"{arch}={check_toolchain(arch, prefix)}" for arch, prefix in value.items())
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError(  # noqa: TRY004 - all of it is what the user wrote
            f"is {_describe(value)}; it must be ARCH=PREFIX or a list of these"
        )
    seen: dict[str, str] = {}
    for entry in value:
        arch, equals, prefix = entry.partition("=") if isinstance(entry, str) else ("", "", "")
        if not equals:
            raise ValueError(f"has {_describe(entry)}; it must be ARCH=PREFIX, such as arm=arm-linux-gnueabi-")
        check_toolchain(arch, prefix)
        if arch in seen:
            raise ValueError(f"names {arch} twice: {quote(seen[arch])} and {quote(prefix)}")
        seen[arch] = prefix
    return tuple(f"{arch}={prefix}" for arch, prefix in seen.items())


def _flag(value: object, *, texts: bool) -> bool:
    if isinstance(value, bool):
        return value
    # Not a mere int of the environment: 0 and 1 are how flags are given there, and Invoke may have cast them.
    word = str(value).strip().lower() if texts and isinstance(value, (str, int)) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"is {_describe(value)}; it must be true or false{' (or 1 or 0)' if texts else ''}")


def _count(value: object, most: int, *, texts: bool) -> int:
    number = value
    if texts and isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value, re.ASCII):
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
        raise ValueError(f"is {_describe(value)}; it must be a whole number from 0 to {most}")
    return number


def _seconds(value: object, least: float, most: float, *, texts: bool) -> float:
    number = value
    if texts and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not least <= number <= most:
        raise ValueError(f"is {_describe(value)}; it must be a number of seconds from {least} to {most}")
    return float(number)


def _text(value: object, *, lists: bool) -> str:
    if lists and isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        value = ",".join(value)
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - all of it is what the user wrote
            f"is {_describe(value)}; it must be text{' or a list of texts' if lists else ''}"
        )
    if not value.isprintable():
        raise ValueError(f"is {quote(value)}; it must not have control characters")
    return value


def _describe(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {quote(value)}"
    if isinstance(value, int) and abs(value) >= 10**15:
        return "a far too large number"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"a {visible(type(value).__name__)}"
