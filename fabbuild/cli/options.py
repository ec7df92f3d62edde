"""The options of every task, each with its help and its default, whose type is that of the option.

An option at its default was not given: then the configuration, machines.yaml or `BuildSettings` decide. The options
of ``build`` that may also be in these files are declared in `fabbuild.config.settings`; this module declares the
others, and the options that tasks share. Numbers are taken as text and read by `settings.merge`, whose errors list
the allowed values.
"""

from __future__ import annotations

from collections.abc import Mapping

from fabbuild.config.option import Option
from fabbuild.config.settings import OPTIONS


def _of_build(*names: str) -> Mapping[str, Option]:
    """Return options of ``build`` that another task also takes."""
    return {name: OPTIONS[name].shown for name in names}


#: The options of all tasks that work on machines.
MACHINES = _of_build("machines", "hosts", "machines_file", "verbose_worker")

#: The options that select boards.
SELECTION = _of_build("boards", "exclude", "only")

WAIT = _of_build("wait")
PACK = _of_build("one_pack")
SOURCE = _of_build("source")
OUTPUT = _of_build("output")
COMMITS = _of_build("branch", "commits", "count")
CAPACITY = _of_build("threads", "max_boards", "toolchain")

#: The options of tasks that show something.
JSON: Mapping[str, Option] = {"json": Option(default=False, help="Print JSON in place of text")}

#: The options of ``build``: those that may be in files, and those of the command line alone.
BUILD: Mapping[str, Option] = {
    **_of_build(*OPTIONS),
    "dry_run": Option(default=False, help="Only say what would be built, as Invoke's own --dry does", short="n"),
    "ide": Option(
        default=False, help="Print only the compilers' messages, on stderr, for an editor to parse", short="I"
    ),
    "summary": Option(default=False, help="At the end, print what each commit changed", short="z"),
    "junit": Option(None, "At the end, write the results to this file as JUnit XML"),
    "trace": Option(None, "At the end, write the run's timeline to this file, as trace events for Perfetto"),
    "report": Option(
        None,
        "At the end, write what each commit and each machine did to this file, as one HTML page (without a file: "
        "report.html beside the results)",
        given="bare",
    ),
    "reply": Option(None, "At the end, write a reply to the patches to this file, as `reply` does"),
}

#: Options of ``build`` that name commits, have results built again, or end a build early.
_NO_BISECT = (
    *("branch", "commits", "patches", "onto", "version", "count", "step", "affected", "order", "batch", "stop_at"),
    *("force", "force_failures", "audit_reuse", "ignore_warnings"),
)

BISECT: Mapping[str, Option] = {
    "good": Option(None, "A commit without the fault", completes="ranges"),
    "bad": Option(None, "A commit with the fault (default: HEAD)", completes="ranges"),
    "error": Option(
        None,
        "Bad is a failure with a line that this regular expression matches; commits "
        "that fail in another way are skipped",
    ),
    "warning": Option(None, "Bad is a line of the build's messages that this regular expression matches"),
    "grows": Option(
        None,
        "Bad is a program larger than at --good by this many bytes or more: BYTES, or REGION:BYTES with one of "
        "all, text, data, bss, rodata; commits that fail are skipped",
    ),
    "run": Option(
        None,
        "Bad is what this shell command, run in the directory of each result, ends with: 0 is good, 125 skips, 128 "
        "and more end the bisection, all else is bad; commits that fail are skipped",
    ),
    "log": Option(
        None, "At the end, write what was found to this file, for `git bisect replay`", completes="files"
    ),
    **_of_build(*(name for name in OPTIONS if name not in _NO_BISECT)),
}

#: The options for what `boards` shows: a part of the selected boards, or something in place of their list.
BOARDS: Mapping[str, Option] = {
    "reading": Option(
        None,
        "Only boards whose build read this file, by their last stored result: a path from the top of the source or "
        "from the current directory in it; also a directory, or a pattern such as 'drivers/net/*.c'",
        completes="files",
    ),
    "fields": Option(
        None,
        "Print only these fields, separated by tabs; some of target, arch, cpu, soc, vendor, board, config, "
        "status, maintainers, separated by commas",
    ),
    "check": Option(
        default=False,
        help="Look for boards that nobody maintains, and MAINTAINERS entries that name no existing defconfig",
    ),
    "full_check": Option(
        default=False, help="As --check, and for boards that set no TARGET_ option or several (takes seconds)"
    ),
}

#: The options for files that other programs read.
EXPORT: Mapping[str, Option] = {
    "junit": Option(None, "Write the results to this file as JUnit XML: a suite a commit, a test case a board"),
    "trace": Option(
        None,
        "Write the run's timeline to this file as trace events, for Perfetto or chrome://tracing: a process a "
        "machine, a thread a slot",
    ),
}

#: The options that select results, for tasks that show them.
RESULTS: Mapping[str, Option] = {
    **SOURCE,
    "output": Option(None, "Where the results are (default: fabbuild-out beside the source)", short="o"),
    "branch": Option(
        None, "Results of this branch (default: what was built last)", short="b", completes="branches"
    ),
    "commits": Option(None, "Results of this range, named as it was given to build", completes="ranges"),
}

HISTORY: Mapping[str, Option] = {
    "limit": Option(None, "Show this many of the last runs; 0: all that are kept (default: 20)"),
    "boards": Option(
        None,
        "Show, in place of runs, how long these boards take on each machine: terms as for `build --boards`, "
        "matched at the start of the name or the architecture",
        given="joined",
        completes="terms",
    ),
}

COMPLETION: Mapping[str, Option] = {"shell": Option(None, "For which shell: bash, fish or zsh", completes="shells")}

FOLLOW: Mapping[str, Option] = {
    "follow": Option(default=False, help="Follow the run until it ends, as the build itself shows it")
}

TOOLCHAINS: Mapping[str, Option] = {
    **MACHINES,
    "tried": Option(default=False, help="Show also every candidate that was tried"),
    "prefix": Option(
        None,
        "Print only CROSS_COMPILE for this board, as it is on this machine if it is one of them",
        completes="board",
    ),
    **SOURCE,
    "fetch": Option(
        None,
        "Fetch cross compilers for these architectures (such as arm,riscv64; `all`: every one there is; `missing`: "
        "for each machine those that it lacks and another one has; `list`: only show which there are) and unpack "
        "them below the work directory of each chosen machine, where they are found from then on",
        completes="archs",
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
        default=False, help="With --fetch: accept an archive even if there is no SHA-256 to check it with"
    ),
    **JSON,
}

SUMMARY: Mapping[str, Option] = {
    **RESULTS,
    "since": Option(
        None, "Show only what came after this commit: its number, or the beginning of its hash or of its subject"
    ),
    "board": Option(
        None,
        "Only these boards: terms as for `build --boards`, matched at the start of the name or the architecture",
        given="joined",
        also="boards",
        completes="terms",
    ),
    "arch": Option(
        None,
        "Only these architectures: expressions, by commas, matched at the start",
        given="joined",
        completes="archs",
    ),
    "errors": Option(
        default=False,
        help="Show the lines of errors and warnings that are new or gone",
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
        default=False, help="With --config: compare .config and the autoconf files too, and keep y apart from 1"
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
    "all_boards": Option(default=False, help="Name all boards, however many there are"),
    "commands": Option(default=False, help="Show also the commands of make behind each failure"),
    "json": Option(default=False, help="Print the summary as one JSON object"),
}

CACHE: Mapping[str, Option] = {
    "trim": Option(
        None,
        "Remove the least recently used results until the rest takes at most this much, such as 500M or 1G",
    ),
    "clear": Option(default=False, help="Remove the whole store, even if it is damaged"),
    **JSON,
}

#: The trailer of ``reply --trailer`` without a name.
TRAILER = "Tested-by"

REPLY: Mapping[str, Option] = {
    **RESULTS,
    "file": Option(None, "Where to write the mail (default: standard output)"),
    "trailer": Option(
        None,
        f"For a series without a fault: end with this trailer and your name, from git (without a value: {TRAILER})",
        given="bare",
    ),
}

REPORT: Mapping[str, Option] = {
    **RESULTS,
    "output_file": Option(None, "Where to write the page (default: report.html beside the results of the branch)"),
    "watch": Option(
        None,
        "Write the page again every so many seconds (without a number: 10) while a build runs, and end with it",
        given="bare",
    ),
}

CLEAN: Mapping[str, Option] = {
    **MACHINES,
    "results": Option(
        default=False,
        help="Remove result trees here (of --output, or only that of --branch) and nothing on machines",
    ),
    **OUTPUT,
    "branch": Option(
        None, "With --results: only the results of this branch or range, or `current`", completes="branches"
    ),
    **SOURCE,
    "older_than": Option(
        None,
        "Only what was not used for this long, such as 12h, 3d or 2w: with --results, whole result trees; on "
        "machines, work directories, and in those that are in use the unused worktrees and the pushed objects that "
        "nothing needs",
    ),
    "toolchains": Option(
        default=False,
        help="Remove also what `toolchains --fetch` has put on the machines, and the archives kept for it here",
    ),
    "yes": Option(default=False, help="Do not ask"),
}
