"""The options of a build: each is declared here, and read from files, the environment and the command line.

The command line (`fabbuild.cli.options`), the configuration keys, the ``build:`` part of machines.yaml and what
``configure`` carries are made from the fields of `BuildSettings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabbuild.config.kinds import (
    ADJUSTMENTS,
    FLAG,
    LIST,
    SIZE,
    TEXT,
    TOOLCHAINS,
    VARIABLES,
    adjustments,
    choice,
    seconds,
    whole,
)
from fabbuild.config.option import BuildOption, option, setting
from fabbuild.config.wording import describe_value, nearest, quote
from fabbuild.errors import ConfigError, UsageError
from fabbuild.protocol.settings import SETTINGS

#: Most threads and most boards at once of a machine: more than any machine has, and few enough to break none.
MAX_THREADS = 4096
MAX_BOARDS = 1024

#: Options that the ``build:`` part of machines.yaml cannot give, since they are needed to find that file.
NOT_IN_FILE = frozenset({"machines_file"})

#: The options that name a range of commits to build, of which a build has one.
RANGES = ("branch", "commits", "patches")


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """The options of ``build``; each field declares an option's kind, help and default.

    The defaults mean: every board, the current source, every enabled machine. An empty text means "not given", as 0
    does for ``count``, ``threads``, ``max_boards`` and ``timeout``. A list is a text with commas.
    """

    boards: str = option(
        LIST,
        "Which boards: terms separated by spaces or commas (OR), `a & b` for both; each a regular expression "
        "matched at the start of target, arch, cpu, board, vendor, soc or config name (default: all)",
        given="joined",
        completes="terms",
    )
    exclude: str = option(
        LIST, "Terms, separated by commas, of boards to leave out", given="joined", short="x", completes="terms"
    )
    only: str = option(
        LIST,
        r"Exact names of boards, separated by commas; a comma in a name has a backslash in front: 'e\,f'",
        given="joined",
        completes="boards",
    )
    source: str = option(TEXT, "Directory of the source (default: this one)", short="g", also="git")
    branch: str = option(
        TEXT,
        "Build the commits of this branch since its upstream, the upstream commit first",
        short="b",
        completes="branches",
    )
    commits: str = option(TEXT, "Build the commits of this range, such as v2026.07..HEAD", completes="ranges")
    patches: str = option(
        TEXT,
        "Build the commits that patches from mails make: a file (mbox, or one that `git format-patch` wrote), a "
        "directory of such files, a Maildir, or - for standard input",
    )
    onto: str = option(
        TEXT,
        "With --patches: the commit to apply them on (default: the base-commit that the mails name, else HEAD)",
        completes="ranges",
    )
    version: int = option(whole(9999), "With --patches: which version of the series (default: the newest)")
    count: int = option(whole(), "Build the top N commits (of a range, or of HEAD)", short="c")
    step: int = option(whole(), "Build every Nth commit of the range; 0: the first and the last", default=1)
    affected: bool = option(
        FLAG,
        "Leave out boards that the commits cannot reach: whose builds read nothing of what they change, as stored "
        "results tell (with --dry: say what the commits reach)",
    )
    output: str = option(
        TEXT, "Where results go (default: fabbuild-out beside the source)", short="o", also="output-dir"
    )
    machines: str = option(
        LIST,
        "Names and groups of machines, separated by commas (default: all that are enabled)",
        given="joined",
        also="use-machines",
        completes="machines",
    )
    hosts: str = option(
        LIST,
        "Hosts that machines.yaml does not name, [user@]name[:port], separated by commas",
        given="joined",
    )
    machines_file: str = option(
        TEXT, "Where the machines are described (default: ./machines.yaml, then the user's own)"
    )
    verbose_worker: bool = option(FLAG, "Have the workers log their actions on stderr")
    no_local: bool = option(FLAG, "Leave out machines with `connection: local`")
    wait: float = option(seconds(), "Seconds to wait for a machine that another boss holds")
    one_pack: bool = option(
        FLAG,
        "Pack the pushed objects once for all machines that lack the same ones, not once for each machine",
        default=True,
    )
    timeout: float = option(
        seconds(),
        "Seconds a board may take at one commit before its build is ended (default: ten times what it or similar "
        "boards took before, and at least 900)",
    )
    silence: float = option(
        seconds(1, 3600),
        "Seconds without a sign of life after which a machine is given up, and a machine gives up its boss",
        default=30.0,
    )
    stall: float = option(
        seconds(1, 86400),
        "Seconds for which a checkout on a machine may do nothing before it is ended; one that gets on "
        "takes what it takes",
        default=60.0,
    )
    patience: float = option(
        seconds(), "Seconds to wait for a machine to come back when no other can build what is left", default=600.0
    )
    restarts: int = option(
        whole(1000),
        "How often a machine may be lost within ten minutes before it is set aside for a while",
        default=5,
    )
    threads: int = option(whole(MAX_THREADS), "Cores to use on each machine (default: as machines.yaml says)")
    max_boards: int = option(
        whole(MAX_BOARDS), "Boards at once on each machine (default: as machines.yaml says)", short="T"
    )
    toolchain: tuple[str, ...] = option(
        TOOLCHAINS, "ARCH=PREFIX (or the path of a gcc) for all machines; may be given more than once"
    )
    env: tuple[str, ...] = option(
        VARIABLES,
        "NAME=VALUE: a variable of the environment of all builds, such as BL31=../bl31.bin, whose file is sent to "
        "the machines; may be given more than once",
    )
    strict_toolchains: bool = option(
        FLAG,
        "Build nothing (exit 1) when machines have different versions of a compiler that is needed, of dtc, "
        "swig or Python; otherwise they are only named",
    )
    batch: bool = option(FLAG, "Divide the boards among the machines beforehand, by their capacity")
    backup: bool = option(
        FLAG,
        "At the end, let idle machines take over boards from others, or build a slow board a second time "
        "(--no-backup: do not)",
        default=True,
    )
    order: str = option(
        choice("longest", "given"),
        "Which boards come first: `longest`: those of which a stored result says that they read a file that the "
        "commits change; then similar ones one after the other, and those that took longest before early enough; "
        "`given`: by their names",
        default="longest",
    )
    stop_at: int | None = option(
        whole(least=1),
        "End the run once this many boards have failed (exit 100); the same command continues from there",
    )
    force: bool = setting("force_build", "Build again what is already built", short="f", also="force-build")
    force_failures: bool = option(FLAG, "Build again what failed", short="F", also="force-build-failures")
    reuse: bool = option(
        FLAG,
        "Reuse results of earlier runs, of any branch, that were built from the same input, and carry a result "
        "forward to commits that cannot change it",
        default=True,
    )
    audit_reuse: int = option(
        whole(),
        "Build this many results from nothing that would be reused, carried forward or built upon others, "
        "and compare (exit 103)",
    )
    ignore_warnings: bool = option(FLAG, "Exit with 0, not 101, when there are warnings only", short="W")
    no_lto: bool = setting("no_lto", "Build without link-time optimisation (NO_LTO=1)", short="L")
    allow_missing: bool = setting(
        "allow_missing", "Let binman go on when external blobs are missing (BINMAN_ALLOW_MISSING=1)", short="M"
    )
    reproducible: bool = setting(
        "reproducible_builds",
        "Build the same bytes each time (SOURCE_DATE_EPOCH=0, and no commit in the version)",
        short="r",
        also="reproducible-builds",
    )
    werror: bool = setting(
        "warnings_as_errors",
        "Treat warnings as errors (-Werror for target and host)",
        short="E",
        also="warnings-as-errors",
    )
    mrproper: bool = setting("mrproper", "Run `make mrproper` before configuring", short="m")
    fallback_mrproper: bool = setting("fallback_mrproper", "Run `make mrproper` and try again when a build fails")
    config_only: bool = setting("config_only", "Only configure, build nothing")
    verbose_build: bool = setting("verbose_build", "Show in the log the commands that make runs (V=1)", short="V")
    kconfig_check: bool = setting("kconfig_check", "Configure again when a Kconfig file changed between commits")
    force_reconfig: bool = setting("force_reconfig", "Configure again at each commit", short="C")
    quick: bool = setting(
        "quick",
        "Build quickly: do not try a failure again, and report a warning only where its file is compiled",
        short="Q",
    )
    fragments: str = setting(
        "fragments", "Configuration fragments (a.config,b.config) to make after the defconfig, as make finds them"
    )
    adjust_cfg: tuple[str, ...] = setting(
        "adjust_cfg",
        "Configuration to set after the fragments: ~FOO for not set, FOO for y, FOO=val; separated by commas, may "
        "be given more than once; a board where one does not stick fails",
        kind=ADJUSTMENTS,
        short="a",
    )
    target: str = setting("target", "The goal of make in place of everything, such as u-boot.bin")
    keep_outputs: bool = setting(
        "keep_outputs",
        "Keep images, maps and device trees beside each result, whichever machine built it",
        short="k",
    )
    keep: str = setting(
        "keep",
        "Files of make's output directory to keep there, as patterns separated by commas, such as "
        "'u-boot.bin,spl/*.bin'; ** is any directories",
    )
    jobserver: bool = setting(
        "jobserver", "Let all builds of a machine share its threads; without it each make gets a fixed part of them"
    )
    ccache: bool = setting(
        "ccache", "Compile through ccache on machines that have it, with one cache for each machine"
    )
    share_objects: bool = setting(
        "share_objects", "Take objects that another board's build made, where a compile would make the same"
    )
    light_tools: bool = setting(
        "light_tools", "Keep nm and ar from loading LLVM's plugin, which is slow and does nothing here"
    )
    debug_info: bool = setting(
        "debug_info",
        "Compile with debug information also where nothing of the output is kept (it changes nothing else)",
    )
    outputs: str = setting(
        "outputs",
        "The most that output directories, kept for each board's next build, may take on the disk of each machine, "
        "such as 20G; 0: keep none (default: a quarter of the free space)",
        kind=SIZE,
    )
    quiet: bool = option(FLAG, "Show only problems and the outcome")
    json: bool = option(FLAG, "Print a line of JSON for each event")

    @classmethod
    def merge(cls, layers: Sequence[tuple[str, Mapping[str, object]]]) -> BuildSettings:
        """Return the options of several layers, of which the later ones win.

        None, an empty text and an empty list mean "not given". Numbers and flags may be texts, as the environment
        gives them. The toolchains and adjustments of all layers are kept; for one architecture or one symbol the
        later layer wins.

        Args:
            layers: options by name, each layer with its origin as messages name it: a file, a configuration key,
                "the command line".

        Raises:
            ConfigError: an option is unknown or its value is not allowed; names origin and option.
        """
        values: dict[str, Any] = {}
        for origin, layer in layers:
            if not hasattr(layer, "items"):
                raise ConfigError(f"{origin}: is {describe_value(layer)}; it must be a mapping of options")
            for name, value in layer.items():
                if name not in OPTIONS:
                    raise ConfigError(f"{origin}: {unknown_option(name)}")
                try:
                    given = check_option(name, value, texts=True)
                except ValueError as exc:
                    raise ConfigError(f"{origin}: {name} {exc}") from None
                if given is not None:
                    values[name] = (*values.get(name, ()), *given) if OPTIONS[name].kind.repeated else given
        return cls(**values)

    def toolchains(self) -> dict[str, str]:
        """Return ``toolchain`` as architecture → prefix or path of gcc; the last one of an architecture counts."""
        return dict(entry.split("=", 1) for entry in self.toolchain)  # checked by `merge`

    def variables(self) -> dict[str, str]:
        """Return ``env`` as name → value; the last one of a name counts."""
        return {name: value for name, _, value in (entry.partition("=") for entry in self.env)}

    def adjustments(self) -> dict[str, str]:
        """Return ``adjust_cfg`` as symbol, without ``CONFIG_``, → value, ``n`` for not set; the last one counts."""
        return adjustments(self.adjust_cfg)

    def wire_settings(self) -> dict[str, object]:
        """Return the settings of the build as ``configure`` carries them: a value for each of `SETTINGS`."""
        given = {row.setting: row.kind.to_wire(getattr(self, name)) for name, row in OPTIONS.items() if row.setting}
        return {name: given.get(name, row.default) for name, row in SETTINGS.items()}


#: The declaration of each option by its name, which is also its configuration key.
OPTIONS: Mapping[str, BuildOption] = {
    field.name: field.metadata["option"] for field in dataclasses.fields(BuildSettings)
}

merge = BuildSettings.merge


def option_of(setting: str) -> str:
    """Return the name of the option that sets a build setting; the setting's own name if no option does."""
    return next((name for name, row in OPTIONS.items() if row.setting == setting), setting)


def read_count(name: str, value: object, default: int) -> int:
    """Return the number given for an option of a task other than ``build``, by default ``default``.

    Raises:
        UsageError: the value is not a number; names the option.
    """
    if value is None or value == "":
        return default
    try:
        return int(whole().read(value, True))
    except ValueError as exc:
        raise UsageError(f"{name} {exc}") from None


def unknown_option(name: object, among: Iterable[str] = OPTIONS) -> str:
    """Return the message for an unknown option, with the most similar options, or all of them."""
    text = str(name)
    near = nearest(text.replace("-", "_"), among)
    return f"there is no option {quote(text)}{near or '; there are: ' + ', '.join(sorted(among))}"


def check_option(name: str, value: object, *, texts: bool) -> Any:
    """Return an option's value in the type of its field, or None for "not given".

    Args:
        name: one of `OPTIONS`.
        value: the value that was given.
        texts: whether a number or a flag may be given as text.

    Raises:
        ValueError: the value is not allowed; the text follows the option's name: ``is …; it must be …``.
    """
    if value is None or value == "" or (isinstance(value, (list, tuple, dict)) and not value):
        return None
    return OPTIONS[name].kind.read(value, texts)
