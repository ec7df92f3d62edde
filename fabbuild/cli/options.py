"""Every option of every task: its default, which also tells its type, and its help. Each is said once.

An option that is at its default was not given: then machines.yaml, the configuration or `BuildSettings` decide.
Numbers are taken as text and read by `settings.merge`, whose errors say what is allowed; a flag cannot be turned
off by an option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One option. A default of False makes a flag, of True ``--[no-]x``; None takes a value.

    ``repeated``: may be given more than once. ``joined``: that too, and means then what one list with commas does.
    ``bare``: may be given without its value, and is True then. ``short`` and ``also``: the letter and another name
    that buildman's users know it by; only what means the same there and here has them.
    """

    default: object
    help: str
    repeated: bool = False
    joined: bool = False
    bare: bool = False
    short: str = ""
    also: str = ""

    @property
    def told(self) -> str:
        """Its help, and whether it may be given more than once."""
        return f"{self.help}; may be given more than once" if self.joined else self.help

    def taken(self, value: object) -> object:
        """Give a value as the task is to have it, which Invoke gave as a list if it may be given more than once."""
        if self.joined and isinstance(value, (list, tuple)):
            return ",".join(filter(None, value)) or self.default
        return value


#: What all tasks that work on machines take.
MACHINES: Mapping[str, Option] = {
    "machines": Option(
        None,
        "Names and groups of machines, separated by commas (default: all that are enabled)",
        joined=True,
        also="use-machines",
    ),
    "hosts": Option(None, "Hosts that are in no file, [user@]name[:port], separated by commas", joined=True),
    "machines_file": Option(
        None, "Where the machines are described (default: ./machines.yaml, then the user's own)"
    ),
    "verbose_worker": Option(default=False, help="Have the workers say what they do, on stderr"),
}

WAIT: Mapping[str, Option] = {"wait": Option(None, "Seconds to wait for a machine that another boss holds")}

PACK: Mapping[str, Option] = {
    "one_pack": Option(
        default=True,
        help="Pack the source once for all machines that lack the same of it; without it once for each of them",
    )
}

JSON: Mapping[str, Option] = {"json": Option(default=False, help="Print JSON in place of text")}

SELECTION: Mapping[str, Option] = {
    "boards": Option(
        None,
        "Which boards: terms separated by spaces or commas (OR), `a & b` for both; each a regular expression "
        "matched at the start of target, arch, cpu, board, vendor, soc or config name (default: all)",
        joined=True,
    ),
    "exclude": Option(None, "Terms, separated by commas, of boards to leave out", joined=True, short="x"),
    "only": Option(None, "Exact names of boards, separated by commas", joined=True),
}

#: What `boards` may show in place of its list.
BOARDS: Mapping[str, Option] = {
    "fields": Option(
        None,
        "Print only these of target, arch, cpu, soc, vendor, board, config, status, maintainers, separated by "
        "commas here and by tabs there",
    ),
    "check": Option(
        default=False,
        help="Look for boards that nobody maintains, and MAINTAINERS entries that name no defconfig there is",
    ),
    "full_check": Option(
        default=False, help="As --check, and for boards that set no TARGET_ option or several (takes seconds)"
    ),
}

SOURCE: Mapping[str, Option] = {
    "source": Option(None, "Directory of the source (default: this one)", short="g", also="git")
}

OUTPUT: Mapping[str, Option] = {
    "output": Option(
        None, "Where results go (default: fabbuild-out beside the source)", short="o", also="output-dir"
    )
}

COMMITS: Mapping[str, Option] = {
    "branch": Option(
        None, "Build the commits of this branch since its upstream, the upstream commit first", short="b"
    ),
    "commits": Option(None, "Build the commits of this range, such as v2026.07..HEAD"),
    "count": Option(None, "Build the top N commits (of --branch, or of HEAD)", short="c"),
}

CAPACITY: Mapping[str, Option] = {
    "threads": Option(None, "Cores to use on each machine"),
    "max_boards": Option(None, "Boards at once on each machine", short="T"),
    "toolchain": Option(
        None, "ARCH=PREFIX (or the path of a gcc) for all machines; may be given more than once", repeated=True
    ),
}

BUILD: Mapping[str, Option] = {
    **SELECTION,
    **SOURCE,
    **COMMITS,
    "step": Option(None, "Build every Nth commit of the range; 0: the first and the last"),
    **OUTPUT,
    **MACHINES,
    "no_local": Option(default=False, help="Leave out machines with `connection: local`"),
    **WAIT,
    **PACK,
    "timeout": Option(
        None,
        "Seconds a board may take at one commit before its build is ended (default: at least 900, and ten times "
        "what it or its like took before)",
    ),
    "silence": Option(
        None,
        "Seconds without a sign of life after which a machine is given up, and a machine gives up its boss "
        "(default: 30)",
    ),
    "patience": Option(
        None,
        "Seconds to wait for a machine to come back when no other can build what is left (default: 600)",
    ),
    "restarts": Option(
        None,
        "How often a machine may be lost within ten minutes before it is set aside for a while (default: 5)",
    ),
    **CAPACITY,
    "strict_toolchains": Option(
        default=False,
        help="Build nothing (exit 1) when machines have different versions of a compiler that is needed, of dtc, "
        "swig or Python; without it they are only named",
    ),
    "batch": Option(default=False, help="Split the boards beforehand by capacity, one list a machine"),
    "backup": Option(
        default=True,
        help="In the end, give machines with nothing to do a part of what others still build, or the same once "
        "more where it is slow (--no-backup: do not)",
    ),
    "order": Option(
        None,
        "Which boards come first: `longest` (default), like ones one after the other and those that took longest "
        "before early enough; or `given`, by their names",
    ),
    "force": Option(default=False, help="Build also what is there already", short="f", also="force-build"),
    "force_failures": Option(default=False, help="Build again what failed", short="F", also="force-build-failures"),
    "reuse": Option(
        default=True,
        help="Take results of earlier runs, of any branch, that were built from the same, and leave unbuilt what a "
        "commit cannot have changed",
    ),
    "audit_reuse": Option(
        None, "Build so many of the results that would be reused or carried forward, and compare (exit 103)"
    ),
    "ignore_warnings": Option(default=False, help="Exit with 0, not 101, when there are warnings only", short="W"),
    "no_lto": Option(default=False, help="Build without link-time optimisation (NO_LTO=1)", short="L"),
    "allow_missing": Option(
        default=False, help="Let binman go on without blobs it has not got (BINMAN_ALLOW_MISSING=1)", short="M"
    ),
    "reproducible": Option(
        default=False,
        help="Build the same bytes each time (SOURCE_DATE_EPOCH=0, and no commit in the version)",
        short="r",
        also="reproducible-builds",
    ),
    "werror": Option(
        default=False,
        help="Treat warnings as errors (-Werror for target and host)",
        short="E",
        also="warnings-as-errors",
    ),
    "mrproper": Option(default=False, help="Run `make mrproper` before configuring", short="m"),
    "fallback_mrproper": Option(default=False, help="Run `make mrproper` and try again when a build fails"),
    "config_only": Option(default=False, help="Only configure, build nothing"),
    "verbose_build": Option(default=False, help="Show the commands make runs, in the log (V=1)", short="V"),
    "kconfig_check": Option(default=True, help="Configure again when a Kconfig file changed between commits"),
    "force_reconfig": Option(default=False, help="Configure again at each commit", short="C"),
    "quick": Option(
        default=False,
        help="Build roughly: try no failure again, and let a warning be said only where its file is compiled",
        short="Q",
    ),
    "fragments": Option(
        None, "Configuration fragments (a.config,b.config) to make after the defconfig, as make finds them"
    ),
    "adjust_cfg": Option(
        None,
        "Settings to change after that: ~FOO not set, FOO y, FOO=val that; separated by commas, may be given more "
        "than once; one that does not stick fails the board",
        repeated=True,
        short="a",
    ),
    "target": Option(None, "What make is to make in place of everything, such as u-boot.bin"),
    "dry_run": Option(default=False, help="Only say what would be built, as Invoke's own --dry does", short="n"),
    "keep_outputs": Option(
        default=False,
        help="Keep images, maps and device trees beside each result, whichever machine built it",
        short="k",
    ),
    "keep": Option(
        None,
        "Files of make's output directory to keep there, as patterns separated by commas, such as "
        "'u-boot.bin,spl/*.bin'; ** is any directories",
    ),
    "jobserver": Option(
        default=True,
        help="Let all builds of a machine share its threads; without it each make gets a fixed part of them",
    ),
    "ccache": Option(
        default=False, help="Compile by way of ccache on machines that have it, from one cache a machine"
    ),
    "light_tools": Option(
        default=True,
        help="Have nm and ar load LLVM's plugin, which is slow and does nothing here, for no object",
    ),
    "debug_info": Option(
        default=False,
        help="Compile with debug information also where nothing of the output is kept (it changes nothing else)",
    ),
    "quiet": Option(default=False, help="Show problems and the end only"),
    "json": Option(default=False, help="Print one line of JSON an event"),
    "ide": Option(
        default=False,
        help="Print nothing but what the compilers say, on stderr, for an editor to read",
        short="I",
    ),
    "summary": Option(default=False, help="Print at the end what each commit changed", short="z"),
    "junit": Option(None, "Write at the end the results to this file as JUnit XML"),
    "trace": Option(None, "Write at the end what each slot did when to this file, as trace events for Perfetto"),
    "report": Option(
        None,
        "Write at the end what each commit and each machine did, as one HTML page, to this file (without one: "
        "report.html beside the results)",
        bare=True,
    ),
}

#: Files that other programs read.
EXPORT: Mapping[str, Option] = {
    "junit": Option(None, "Write the results to this file as JUnit XML: a suite a commit, a test case a board"),
    "trace": Option(
        None,
        "Write the run's timeline to this file as trace events, for Perfetto or chrome://tracing: a process a "
        "machine, a thread a slot",
    ),
}

#: Which results are meant, for tasks that look at them.
RESULTS: Mapping[str, Option] = {
    **SOURCE,
    "output": Option(None, "Where the results are (default: fabbuild-out beside the source)", short="o"),
    "branch": Option(None, "Those of this branch (default: what was built last)", short="b"),
    "commits": Option(None, "Those of this range, named as it was given to build"),
}

HISTORY: Mapping[str, Option] = {
    "limit": Option(None, "Tell of so many runs, the last ones; 0: all that are kept (default: 20)"),
    "boards": Option(
        None,
        "Tell in place of runs what these boards take on each machine: terms as for `build --boards`, matched at "
        "the start of the name or the architecture",
        joined=True,
    ),
}

COMPLETION: Mapping[str, Option] = {"shell": Option(None, "For which shell: bash, fish or zsh")}

FOLLOW: Mapping[str, Option] = {
    "follow": Option(default=False, help="Go on showing it until it ends, as the build itself does"),
}

TOOLCHAINS: Mapping[str, Option] = {
    **MACHINES,
    "tried": Option(default=False, help="Show also every candidate that was tried"),
    "prefix": Option(None, "Print only what CROSS_COMPILE is for this board, here where builds are done here"),
    **SOURCE,
    "fetch": Option(
        None,
        "Get cross compilers for these architectures (such as arm,riscv64; `all`: every one there is; `list`: only "
        "show which there are) and unpack them below the work directory of each chosen machine, where they are "
        "found from then on",
    ),
    "toolchain_version": Option(
        None, "With --fetch: take this version of gcc; 13 is the newest 13.x (default: the newest there is)"
    ),
    "toolchain_url": Option(
        None,
        "With --fetch: where the archives are, laid out as kernel.org's are (default: `toolchains: {url: …}` in "
        "machines.yaml, else kernel.org's)",
    ),
    "unchecked": Option(
        default=False, help="With --fetch: take an archive also when there is no SHA-256 to check it by"
    ),
    **JSON,
}

SUMMARY: Mapping[str, Option] = {
    **SOURCE,
    "output": Option(None, "Where the results are (default: fabbuild-out beside the source)", short="o"),
    "branch": Option(None, "Tell of this branch (default: what was built last)", short="b"),
    "commits": Option(None, "Tell of this range, named as it was given to build"),
    "since": Option(
        None, "Tell only what came after this commit: its number, or the beginning of its hash or of its subject"
    ),
    "board": Option(
        None,
        "Only these boards: terms as for `build --boards`, matched at the start of the name or the architecture",
        joined=True,
        also="boards",
    ),
    "arch": Option(None, "Only these architectures: expressions, by commas, matched at the start", joined=True),
    "errors": Option(
        default=False,
        help="Show the lines of errors and warnings that came and went",
        short="e",
        also="show-errors",
    ),
    "list_boards": Option(
        default=False, help="Name the boards behind each error and warning", short="l", also="list-error-boards"
    ),
    "sizes": Option(
        default=False, help="Show how sizes changed, averaged by architecture", short="S", also="show-sizes"
    ),
    "detail": Option(default=False, help="With --sizes: show each board as well", short="d"),
    "bloat": Option(default=False, help="Show how functions and variables changed, board by board", short="B"),
    "config": Option(default=False, help="Show how the configuration changed", short="K", also="show-config"),
    "all_config_files": Option(
        default=False,
        help="With --config: compare .config and the autoconf files too, and keep y apart from 1",
    ),
    "environment": Option(
        default=False, help="Show how the default environments changed", short="U", also="show-environment"
    ),
    "unbuilt": Option(
        default=False, help="Name the boards without a result, with the reason", short="u", also="show-not-built"
    ),
    "filter_dtb_warnings": Option(default=False, help="Leave out warnings of the device-tree compiler", short="y"),
    "filter_migration_warnings": Option(
        default=False, help="Leave out notes of a board's outdated configuration", short="Y"
    ),
    "all_commits": Option(default=False, help="Show also commits that changed nothing"),
    "all_boards": Option(default=False, help="Name all boards, however many"),
    "commands": Option(default=False, help="Show also the commands of make behind each failure"),
    "json": Option(default=False, help="Print all of it as one JSON object"),
}

CACHE: Mapping[str, Option] = {
    "trim": Option(
        None, "Remove what was not used for the longest time until all takes this much, such as 500M or 1G"
    ),
    "clear": Option(default=False, help="Remove all of it, whatever state it is in"),
    **JSON,
}

REPORT: Mapping[str, Option] = {
    **RESULTS,
    "output_file": Option(None, "Where the page goes (default: report.html beside the results of the branch)"),
    "watch": Option(
        None,
        "Write it anew every so many seconds (without a number: 10) while a build runs, and end with that",
        bare=True,
    ),
}

CLEAN: Mapping[str, Option] = {
    **MACHINES,
    "results": Option(
        default=False,
        help="Remove result trees here (of --output, or only that of --branch) and nothing on machines",
    ),
    **OUTPUT,
    "branch": Option(None, "With --results: only the results of this branch or range, or `current`"),
    **SOURCE,
    "older_than": Option(
        None,
        "Only what was not used for so long, such as 12h, 3d or 2w: with --results whole result trees; on machines "
        "work directories, or of those in use the unused worktrees and the pushed objects that nothing needs",
    ),
    "toolchains": Option(
        default=False,
        help="Remove also what `toolchains --fetch` has put on the machines, and the archives kept for it here",
    ),
    "yes": Option(default=False, help="Do not ask"),
}
