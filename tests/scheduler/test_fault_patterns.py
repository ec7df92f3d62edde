"""Which failures are a machine's fault, by the words of real tools.

All texts were written by the tools themselves (GNU make 4.3, gcc 12, binutils 2.40, dash, bash, git, Python, dtc) on a
full file system, with too little memory, with too few processes, with parts of the compiler that die or are not there.
Only names of directories were shortened.
"""

# ruff: noqa: ISC004 - each text is that of a whole failure

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fabbuild.scheduler.fault_patterns import WORDS, Fault, FaultKind, fault_of
from fabbuild.text import visible
from tests.support.examples import at_most

DISK = [
    "/tmp/ccqWV2fK.s: Assembler messages:\n"
    "/tmp/ccqWV2fK.s: Fatal error: can't write 12 bytes to section .data of full/x.o: 'No space left on device'\n"
    "/tmp/ccqWV2fK.s: Fatal error: full/x.o: No such file or directory\n",
    "/usr/bin/ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status\n",
    "huge.c:2:1: fatal error: error writing to full/ccwM9LuE.s: No space left on device\n"
    "    2 | int main(void){return a[1];}\n      | ^~~\ncompilation terminated.\n",
    "{standard input}: Assembler messages:\n"
    "{standard input}: Fatal error: can't write 3720 bytes to section .data of h.o: 'No space left on device'\n"
    "{standard input}: Fatal error: full/h.o: No such file or directory\n",
    "cat: write error: No space left on device\n",
    "bash: echo: write error: No space left on device\n",
    "cp: error writing 'full/huge.c': No space left on device\n",
    'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n'
    "OSError: [Errno 28] No space left on device\n",
    "OSError: [Errno 122] Disk quota exceeded: 'full/q'\n",
    "FATAL ERROR: Error writing device tree blob: No space left on device\n",
    "objcopy: full/h.bin[.data]: No space left on device\n",
    "ar: full/libx.a: No space left on device\n",
    "sed: couldn't write 2688900 items to full/sedout: No space left on device\n",
    "sort: write failed: full/s: No space left on device\nsort: write error\n",
    "\ngzip: stdout: No space left on device\n",
    "error: copy-fd: write returned: No space left on device\n"
    "fatal: cannot copy 'templates/description' to 'repo/.git/description': No space left on device\n",
    "cc1: error: src.c: Disk quota exceeded\n(null):0: confused by earlier errors, bailing out\n",
    "dash: 1: cannot create full/y: Disk quota exceeded\n",
]

MEMORY = [
    "virtual memory exhausted: Cannot allocate memory\n",
    "make: *** virtual memory exhausted\n",
    'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\nMemoryError\n',
    "bash: xmalloc: cannot allocate 8388609 bytes\n",
    "/usr/lib/gcc/x86_64-linux-gnu/12/cc1: error while loading shared libraries: libc.so.6: "
    "failed to map segment from shared object\n",
    "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\nmake: *** [Makefile:2: x.o] Error 1\n",
    "collect2: fatal error: ld terminated with signal 9 [Killed]\ncompilation terminated.\n",
    "make: *** [Makefile:2: all] Killed\n",
    "Killed\nmake[1]: *** [Makefile:6: sub] Error 137\nmake: *** [Makefile:177: all] Error 2\n",
]

PROCESSES = [
    "make: gcc: Resource temporarily unavailable\nmake: *** [Makefile:4: direct] Error 127\n",
    "make: /bin/sh: Resource temporarily unavailable\nmake: *** [Makefile:2: c] Error 127\n"
    "make: *** Waiting for unfinished jobs....\n",
    "gcc: fatal error: cannot execute '/usr/lib/gcc/x86_64-linux-gnu/12/cc1': vfork: Resource temporarily unavailable\n"
    "compilation terminated.\nmake: *** [Makefile:3: one] Error 1\n",
    "/bin/sh: 0: Cannot fork\nmake: *** [Makefile:2: a] Error 2\n",
    'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n'
    "BlockingIOError: [Errno 11] Resource temporarily unavailable\n",
    "RuntimeError: can't start new thread\n",
    "bash: fork: retry: Resource temporarily unavailable\nbash: fork: Resource temporarily unavailable\n",
    "fatal: unable to create thread: Resource temporarily unavailable\nfatal: failed to run repack\n",
]

IO = [
    "cc1: error: src.c: Input/output error\n(null):0: confused by earlier errors, bailing out\n",
    'inc.c:1:10: fatal error: bad/inc.h: Stale file handle\n    1 | #include "bad/inc.h"\n      |          ^~~~~~~~~~~\n'
    "compilation terminated.\n",
    'inc.c:1:10: error: bad/inc.h: Input/output error\n    1 | #include "bad/inc.h"\n      |          ^~~~~~~~~~~\n',
    "dash: 1: cannot create bad/y: Structure needs cleaning\n",
    "dash: 1: echo: echo: I/O error\n",
    "bash: line 1: ro/x: Read-only file system\n",
    "OSError: [Errno 30] Read-only file system: 'ro/x'\n",
    "make: bad/mk: Input/output error\nmake: *** No rule to make target 'bad/mk'.  Stop.\n",
    "Assembler messages:\nFatal error: can't create ro/x.o: Read-only file system\n",
    "/usr/bin/ld: cannot open output file ro/x: Read-only file system\ncollect2: error: ld returned 1 exit status\n",
    "big.c:3:1: fatal error: opening dependency file ro/x.d: Read-only file system\n"
    "    3 | int main(void){return f(table[1]);}\n      | ^~~\ncompilation terminated.\n",
    "FATAL ERROR: Couldn't open output file ro/x.dtb: Read-only file system\n",
    "gcc: internal compiler error: Bus error signal terminated program cc1\n"
    "Please submit a full bug report, with preprocessed source (by using -freport-bug).\n",
    "collect2: fatal error: ld terminated with signal 7 [Bus error]\ncompilation terminated.\n",
    "make: *** [Makefile:2: all] Bus error\n",
    "Bus error\nmake: *** [Makefile:6: sub] Error 135\n",
]

TOOLCHAIN = [
    "gcc: internal compiler error: Segmentation fault signal terminated program cc1\n"
    "Please submit a full bug report, with preprocessed source (by using -freport-bug).\n"
    "See <file:///usr/share/doc/gcc-12/README.Bugs> for instructions.\n",
    "gcc: internal compiler error: Illegal instruction signal terminated program as\n",
    "a.c:12:1: internal compiler error: Segmentation fault\n   12 | }\n      | ^\n",
    "collect2: fatal error: ld terminated with signal 11 [Segmentation fault]\ncompilation terminated.\n",
    "collect2: fatal error: ld terminated with signal 6 [Aborted]\ncompilation terminated.\n",
    "make: *** [Makefile:2: all] Segmentation fault\n",
    "make: *** [Makefile:2: all] Illegal instruction\n",
    "Segmentation fault\nmake: *** [Makefile:6: sub] Error 139\n",
    "bash: line 35: 18395 Segmentation fault      gcc -c x.c\n",
    "make: arm-none-gcc: No such file or directory\nmake: *** [Makefile:2: all] Error 127\n",
    "make: arm-none-gcc: No such file or directory\nmake: *** [Makefile:3: all] Error 1\n",
    "make: bison: No such file or directory\nmake: *** [Makefile:2: all] Error 127\n",
    "/bin/sh: 1: arm-none-gcc: not found\nmake: *** [Makefile:2: all] Error 127\n",
    "/bin/bash: line 1: arm-none-gcc: command not found\nmake: *** [Makefile:3: all] Error 127\n",
    "/bin/sh: 1: /opt/none/bin/arm-gcc: not found\nmake: *** [Makefile:2: all] Error 127\n",
    "/bin/bash: line 1: /opt/none/bin/arm-gcc: No such file or directory\nmake: *** [Makefile:3: all] Error 127\n",
    "make: /opt/bin/arm-gcc: Permission denied\nmake: *** [Makefile:2: all] Error 127\n",
    "/bin/sh: 1: /opt/bin/arm-gcc: Permission denied\nmake: *** [Makefile:2: all] Error 126\n",
    "/bin/sh: 1: /opt/bin/arm-ld: Exec format error\nmake: *** [Makefile:2: all] Error 126\n",
    "/bin/bash: line 1: /opt/bin/arm-ld: cannot execute binary file: Exec format error\n",
    "gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory\ncompilation terminated.\n",
    "gcc: fatal error: cannot execute '/opt/cc1': execv: Exec format error\ncompilation terminated.\n",
    "gcc: error trying to exec 'cc1': execvp: No such file or directory\n",
    "/usr/lib/gcc/x86_64-linux-gnu/12/cc1: error while loading shared libraries: libisl.so.23: file too short\n",
    "ld: error while loading shared libraries: libbfd-2.40-system.so: cannot open shared object file: "
    "No such file or directory\n",
    "/usr/bin/env: 'python3': No such file or directory\nmake: *** [Makefile:2: all] Error 127\n",
]

# What the tree's own tools need of the machine they run on.
HOST = [
    "tools/x.c:3:10: fatal error: openssl/evp.h: No such file or directory\n    3 | #include <openssl/evp.h>\n"
    "      |          ^~~~~~~~~~~~~~~\ncompilation terminated.\nmake[1]: *** [scripts/Makefile.host:112: tools/x.o] Error 1\n",
    "tools/x.c:3:10: fatal error: openssl/evp.h: No such file or directory\n",
    "../scripts/kconfig/mconf.c:5:10: fatal error: curses.h: No such file or directory\n",
    "In file included from tools/imagetool.h:24,\n                 from tools/aisimage.c:7:\n"
    "include/image.h:22:10: fatal error: openssl/evp.h: No such file or directory\n   22 | #include <openssl/evp.h>\n",
    "In file included from tools/lib/rsa/rsa-sign.c:1:\n"
    "./tools/../lib/rsa/rsa-sign.c:12:10: fatal error: openssl/rsa.h: No such file or directory\n",
    "In file included from tools/aisimage.c:7:\nIn file included from include/imagetool.h:24:\n"
    "include/image.h:22:10: fatal error: 'openssl/evp.h' file not found\n#include <openssl/evp.h>\n         ^~~~~~~~~~~~~~~\n",
    "scripts/dtc/pylibfdt/libfdt_wrap.c:154:11: fatal error: Python.h: No such file or directory\n"
    "  154 | # include <Python.h>\n      |           ^~~~~~~~~~\n",
    "/usr/bin/ld: cannot find -lssl\n/usr/bin/ld: cannot find -lcrypto\ncollect2: error: ld returned 1 exit status\n",
    "/usr/bin/ld: cannot find -lssl: No such file or directory\ncollect2: error: ld returned 1 exit status\n",
]

# The same in words that do not always mean the end of a build.
PACKAGES = [
    "Package openssl was not found in the pkg-config search path.\n"
    "Perhaps you should add the directory containing `openssl.pc'\nto the PKG_CONFIG_PATH environment variable\n"
    "No package 'openssl' found\nmake[1]: *** [tools/Makefile:3: tools] Error 1\n",
    "Package 'openssl', required by 'virtual:world', not found\n",
    'Traceback (most recent call last):\n  File "tools/binman/binman", line 3, in <module>\n    import libfdt\n'
    "ModuleNotFoundError: No module named 'libfdt'\nmake: *** [Makefile:9: all] Error 1\n",
    "ImportError: cannot import name 'escape' from 'jinja2'\n",
]

FAULTS = [
    (kind, text)
    for kind, texts in (
        (FaultKind.DISK, DISK),
        (FaultKind.MEMORY, MEMORY),
        (FaultKind.PROCESSES, PROCESSES),
        (FaultKind.IO, IO),
        (FaultKind.TOOLCHAIN, TOOLCHAIN),
        (FaultKind.HOST, HOST),
    )
    for text in texts
]

OWN = [
    "s.c:1:9: error: expected expression before ';' token\n    1 | int x = ;\n      |         ^\n",
    'i.c:1:10: fatal error: bad/none.h: No such file or directory\n    1 | #include "bad/none.h"\n'
    "      |          ^~~~~~~~~~~~\ncompilation terminated.\n",
    "w.c: In function 'f':\nw.c:1:17: error: unused variable 'x' [-Werror=unused-variable]\n"
    "    1 | int f(void){int x; return 0;}\n      |                 ^\ncc1: all warnings being treated as errors\n",
    "cc1: fatal error: none.c: No such file or directory\ncompilation terminated.\n",
    "gcc: error: unrecognized command-line option '--bogus'\n",
    "/usr/bin/ld: /tmp/cc7Dwskb.o: in function `main':\nneeds.c:(.text+0x5): undefined reference to `foo'\n"
    "collect2: error: ld returned 1 exit status\n",
    "/usr/bin/ld: /tmp/ccS02hYh.o: in function `main':\nneeds.c:(.text+0x0): multiple definition of `main'; "
    "/tmp/cckuUX62.o:big.c:(.text+0xe): first defined here\ncollect2: error: ld returned 1 exit status\n",
    "/usr/bin/ld: cannot open linker script file none.lds: No such file or directory\n"
    "collect2: error: ld returned 1 exit status\n",
    "/usr/bin/ld:bad.lds:0: syntax error\ncollect2: error: ld returned 1 exit status\n",
    "ld: u-boot section `.text' will not fit in region `sram'\nld: region `sram' overflowed by 1200 bytes\n",
    "e.s: Assembler messages:\ne.s:1: Error: No space left on device\n",
    "Makefile:1: *** No space left on device.  Stop.\n",
    "Makefile:1: *** missing separator.  Stop.\n",
    "make: *** No rule to make target 'none.c', needed by 'all'.  Stop.\n",
    "Makefile:1: none.mk: No such file or directory\nmake: *** No rule to make target 'none.mk'.  Stop.\n",
    "make: none.mk: No such file or directory\nmake: *** No rule to make target 'none.mk'.  Stop.\n",
    "make: ./scripts/none.sh: No such file or directory\nmake: *** [Makefile:2: all] Error 127\n",
    "/bin/sh: 1: ./scripts/none.sh: not found\nmake: *** [Makefile:2: all] Error 127\n",
    "Error: e.dts:2.13-14 syntax error\nFATAL ERROR: Unable to parse input tree\n",
    'e3.dts:2.3-19: ERROR (phandle_references): /: Reference to non-existent node or label "foo"\n\n'
    "ERROR: Input tree has errors, aborting (use -f to force output)\n",
    'FATAL ERROR: Couldn\'t open "No space left on device": No such file or directory\n',
    'e.c:1:2: error: #error "No space left on device"\n    1 | #error "No space left on device"\n      |  ^~~~~\n',
    'e2.c:1:1: error: static assertion failed: "x: No space left on device"\n'
    '    1 | _Static_assert(0, "x: No space left on device");\n      | ^~~~~~~~~~~~~~\n',
    'e2.c:2:19: error: y: Cannot allocate memory\n    2 | #pragma GCC error "y: Cannot allocate memory"\n'
    "      |                   ^~~~~~~~~~~~~~~~~~~~~~~~~~~\n",
    'e2.c:3:10: fatal error: x: Input/output error: No such file or directory\n    3 | #include "x: Input/output error"\n'
    "      |          ^~~~~~~~~~~~~~~~~~~~~~~\ncompilation terminated.\n",
    "drivers/x.c:3:10: fatal error: openssl/evp.h: No such file or directory\n    3 | #include <openssl/evp.h>\n",
    "drivers/tools/x.c:3:10: fatal error: openssl/evp.h: No such file or directory\n",
    'tools/x.c:3:10: fatal error: image.h: No such file or directory\n    3 | #include "image.h"\n',
    "In file included from drivers/x.c:7:\ntools/x.h:3:10: fatal error: none.h: No such file or directory\n",
    "Error: image too big\n",
    "u-boot.bin exceeds file size limit:\n  limit:  0x1000 bytes\n  actual: 0x2000 bytes\n",
    "Image too large: 2000 > 1000\nmake: *** [Makefile:2: all] Error 1\n",
    "binman: Filename 'bl31.bin' not found in input path (.,tools)\nmake: *** [Makefile:9: all] Error 1\n",
    "drivers/Kconfig:3:error: recursive inclusion detected\n",
    "Kconfig:36: missing end statement for this entry\nmake[1]: *** [Makefile:66: a_defconfig] Error 1\n",
    "drivers/Kconfig.soc:7: 'endif' in different file than 'if'\nKconfig:2: location of the 'if'\n",
    "Kconfig:7: can't open file \"drivers/none/Kconfig\"\nmake[1]: *** [Makefile:66: a_defconfig] Error 1\n",
    '***\n*** Configuration file ".config" not found!\n***\n*** Please run some configurator\n***\n',
    "make was ended: Kconfig asks the same question again and again: Odd number (ODD) [] (NEW)\n",
    "objcopy: 'nonesuch': No such file\n",
    "cp: cannot stat 'nonesuch': No such file or directory\n",
]  # fmt: skip

MUTE = [
    "",
    "Kconfig:9:warning: ignoring unsupported character '@'\nmake[1]: *** [Makefile:66: a_defconfig] Error 1\n",
    "make: *** [Makefile:2: all] Error 2\n",
    "make[1]: *** [Makefile:5: b] Error 1\nmake: *** Waiting for unfinished jobs....\nmake: *** [Makefile:3: a] Error 1\n",
    "a.c:3:5: warning: unused variable 'x' [-Wunused-variable]\n    3 | int x;\n      |     ^\n"
    "make: *** [Makefile:2: all] Error 1\n",
    "collect2: error: ld returned 1 exit status\nmake: *** [Makefile:2: all] Error 1\n",
    "gcc: fatal error: Terminated signal terminated program cc1\ncompilation terminated.\n",
    "make: *** [Makefile:2: all] Terminated\n",
    "Aborted\nmake: *** [Makefile:6: sub] Error 134\n",
    "\n*** Error during writing of the configuration.\n\n",
]


def kind_of(stderr: str, code: int = 2, told: str = "", stdout: str = "") -> FaultKind | None:
    fault = fault_of(code, stderr, stdout, told)
    return fault.kind if fault else None


@pytest.mark.parametrize(("kind", "text"), FAULTS)
def test_what_a_machine_lacks_is_known_by_the_tools_words(kind: FaultKind, text: str) -> None:
    fault = fault_of(2, text, "", "")
    assert fault is not None
    assert fault.kind is kind
    assert fault.words in text


@pytest.mark.parametrize("text", OWN)
def test_a_failure_that_explains_itself_is_the_boards(text: str) -> None:
    assert fault_of(2, text, "", "") is None
    if not text.startswith("make was ended"):  # which the worker writes to stderr only
        assert fault_of(2, "", text, "") is None


@pytest.mark.parametrize("text", MUTE)
def test_a_failure_that_nobody_explains_is_told_apart(text: str) -> None:
    fault = fault_of(2, text, "CC a.o\n", "")
    assert fault is not None
    assert fault.kind is FaultKind.UNEXPLAINED
    assert fault.words


@pytest.mark.parametrize(("kind", "text"), FAULTS)
def test_a_fault_is_not_hidden_by_what_it_brought_about(kind: FaultKind, text: str) -> None:
    for own in OWN[:8]:
        assert kind_of(own + text) is kind
        assert kind_of(text + own) is kind
    assert kind_of("", stdout=text) is kind


def test_the_cause_is_named_and_not_what_came_of_it() -> None:
    assert kind_of(TOOLCHAIN[0] + IO[0] + DISK[1]) is FaultKind.DISK
    assert kind_of(TOOLCHAIN[0] + MEMORY[0]) is FaultKind.MEMORY


@pytest.mark.parametrize(("kind", "text"), FAULTS)
def test_a_success_is_no_fault_whatever_was_said(kind: FaultKind, text: str) -> None:
    assert fault_of(0, text, text, kind.value) is None


@pytest.mark.parametrize("text", PACKAGES)
def test_a_package_that_is_not_there_is_the_machines_unless_something_else_explains_it(text: str) -> None:
    assert kind_of(text) is FaultKind.HOST
    assert kind_of("", stdout=text) is FaultKind.HOST
    assert kind_of(text + OWN[0]) is None
    assert kind_of(OWN[0] + text) is None


SKEWED = (
    "make[1]: Warning: File 'common/main.c' has modification time 19 s in the future\n"
    "make[1]: warning:  Clock skew detected.  Your build may be incomplete.\n"
)


def test_a_build_that_make_calls_incomplete_is_the_machines_however_it_ended() -> None:
    for code, stderr in ((0, SKEWED), (2, SKEWED), (2, OWN[0] + SKEWED), (0, "a.c:3:5: warning: x\n" + SKEWED)):
        fault = fault_of(code, stderr, "", "")
        assert fault is not None
        assert fault.kind is FaultKind.CLOCK
        assert fault.words == SKEWED.splitlines()[1]
    assert fault_of(0, "Makefile:3: make: warning:  Clock skew detected.\n", "", "") is None
    assert kind_of(SKEWED + DISK[0]) is FaultKind.DISK
    assert kind_of(SKEWED, 124, "timeout") is FaultKind.TIMEOUT


@pytest.mark.parametrize("code", [137, -9])
def test_a_make_that_was_killed_had_no_memory(code: int) -> None:
    assert kind_of("", code) is FaultKind.MEMORY
    assert kind_of(OWN[0], code) is FaultKind.MEMORY
    ended = "make was ended: it wrote more than 1024 MiB\n"
    assert kind_of(ended, code) is None, "the worker killed it, for what it did"


def test_a_program_that_is_not_there_is_the_machines_and_a_script_of_the_tree_the_boards() -> None:
    error = "make[1]: *** [Makefile:7: u-boot] Error 127\n"
    for line in ("/opt/bin/riscv64-gcc: not found", "gcc: not found", ""):
        assert kind_of(f"{line}\n{error}", 2) is FaultKind.TOOLCHAIN, line
    for line in ("/bin/sh: 1: ./scripts/lost.sh: not found", "./tools/lost.sh: not found"):
        assert kind_of(f"{line}\n{error}", 2) is None, line


def test_what_a_machine_lacks_is_never_the_boards_result_and_what_is_broken_may_be() -> None:
    ended = "make: *** [Makefile:2: all] Error 127\n"
    absent = ("/bin/sh: 1: lzopx: not found\n", "make: lzopx: No such file or directory\n")
    for line in (*(line + ended for line in absent), *HOST):
        found = fault_of(2, line, "", "")
        assert found is not None
        assert found.lacking, line
    for line in (
        "a.c:1:1: internal compiler error: Segmentation fault\n",
        "make: lzop: Permission denied\n",
        DISK[0],
    ):
        found = fault_of(2, line + ended, "", "")
        assert found is not None
        assert not found.lacking, line


def test_what_could_not_be_written_is_the_machines_also_where_no_reason_is_told() -> None:
    # Kconfig on a full disk says no more than this.
    assert (
        kind_of(".generated_defconfig:5: cannot write .config.tmp\nmake: *** [conf] Error 1\n", 2) is FaultKind.IO
    )
    assert kind_of("ar: failed to write lib.a\nmake: *** [lib.a] Error 1\n", 2) is FaultKind.IO
    quoted = 'a.c:3:2: error: #error "cannot write here"\n'
    assert kind_of(quoted, 2) is None


def test_what_the_worker_told_wins_but_for_the_more_precise() -> None:
    checkout = "cannot check out abc: fatal: unable to read tree 1f0cd4b\n"
    assert kind_of(checkout, 1, "checkout") is FaultKind.CHECKOUT
    assert (
        kind_of(checkout + "fatal: cannot create directory at 'x': No space left on device\n", 1, "checkout")
        is FaultKind.DISK
    )
    assert (
        kind_of("make failed to start: [Errno 2] No such file or directory: 'make'\n", 1, "start")
        is FaultKind.START
    )
    assert kind_of("make failed to start: [Errno 12] Cannot allocate memory\n", 1, "start") is FaultKind.MEMORY
    assert (
        kind_of("make failed to start: [Errno 11] Resource temporarily unavailable\n", 1, "start")
        is FaultKind.PROCESSES
    )
    assert kind_of(TOOLCHAIN[0], 1, "worker") is FaultKind.WORKER
    assert kind_of("[Errno 5] Input/output error: 'x'\n", 1, "worker") is FaultKind.IO
    assert kind_of(DISK[0] + "make was ended: it took more than 9 s\n", 124, "timeout") is FaultKind.TIMEOUT
    assert kind_of(OWN[0], 1, "worker") is FaultKind.WORKER
    assert kind_of(OWN[0], 1, "something new") is None


def test_what_the_worker_could_not_do_itself_is_marked_also_where_a_text_says_why() -> None:
    full = "the worker failed: OSError: [Errno 28] No space left on device: 'x'\n"
    assert fault_of(1, full, "", "worker") == Fault(FaultKind.DISK, full.strip(), reported=True)
    for told in ("checkout", "start", "worker"):
        assert fault_of(1, "x\n", "", told) == Fault(FaultKind(told), "x", reported=True)
    plain = "cannot check out abc: fatal: reference is not a tree: abc\n"
    assert fault_of(1, plain, "", "") == Fault(FaultKind.CHECKOUT, plain.strip(), reported=True)
    for words, told in ((DISK[0], ""), (DISK[0], "timeout"), ("", "")):
        found = fault_of(1, words, "", told)
        assert found is not None
        assert not found.reported


def test_a_worker_that_tells_no_kinds_says_it_in_words() -> None:
    assert kind_of("cannot check out abc: fatal: reference is not a tree: abc\n", 1) is FaultKind.CHECKOUT
    assert kind_of("make failed to start: [Errno 2] No such file or directory: 'make'\n", 1) is FaultKind.START


@pytest.mark.parametrize("kind", ["timeout", "checkout", "start", "worker"])
def test_there_are_words_even_where_the_worker_gave_none(kind: str) -> None:
    fault = fault_of(1, "", "", kind)
    assert fault is not None
    assert fault.words


# Text as a source may hold it in a string: one printable line without the quotes that end it.
quoted = st.one_of(
    st.sampled_from([line for _, text in FAULTS for line in text.splitlines() if '"' not in line and line]),
    st.sampled_from(
        ["No space left on device", "x: Cannot allocate memory", "[Errno 28] No space left on device: x"]
    ),
    st.text(st.characters(exclude_categories=["C"], exclude_characters='"\\\n'), min_size=1, max_size=40),
)
PLACES = [
    'a.c:1:2: error: #error "{0}"\n    1 | #error "{0}"\n      |  ^~~~~\n',
    "a.c:1:2: error: #error {0}\n    1 | #error {0}\n      |  ^~~~~\n",
    "a.c:1:2: error: #error {0}\n #error {0}\n  ^~~~~\n",
    'a.c:1:1: error: static assertion failed: "{0}"\n    1 | _Static_assert(0, "{0}");\n      | ^~~~~~~~~~~~~~\n',
    'a.c:2:19: error: {0}\n    2 | #pragma GCC error "{0}"\n      |                   ^~~\n',
    'a.c:1:10: fatal error: {0}: No such file or directory\n    1 | #include "{0}"\n      |          ^~~~\n',
    "a.c:4:2: error: call to 'f' declared with attribute error: {0}\n    4 |  f();\n      |  ^~~\n",
    "a.s: Assembler messages:\na.s:1: Error: {0}\n",
    "Makefile:1: *** {0}.  Stop.\n",
    'FATAL ERROR: Couldn\'t open "{0}": No such file or directory\n',
    "make: *** No rule to make target '{0}', needed by 'all'.  Stop.\n",
]


@given(st.sampled_from(PLACES), quoted)
@example(PLACES[1], "fatal error: error writing to x: No space left on device")
@example(PLACES[1], "internal compiler error: Segmentation fault")
@example(PLACES[1], "a\u2028bash: fork: Resource temporarily unavailable")
@example(PLACES[1], "a\x0bbash: fork: Resource temporarily unavailable")
def test_what_a_source_says_is_never_the_machines(place: str, text: str) -> None:
    stderr = place.format(text) + "make: *** [Makefile:2: a.o] Error 1\n"
    assert fault_of(2, stderr, "", "") is None


@given(st.integers(-300, 300), st.text(st.characters()), st.text(), st.sampled_from(["", "timeout", "start", "x"]))
def test_any_text_has_an_answer_in_one_visible_line(code: int, stderr: str, stdout: str, told: str) -> None:
    fault = fault_of(code, stderr, stdout, told)
    assert code or fault is None
    if fault:
        assert 0 < len(fault.words) <= WORDS
        assert "\n" not in fault.words
        assert visible(fault.words) == fault.words
        assert fault.words.encode()


@settings(max_examples=at_most(50))
@given(st.sampled_from(FAULTS), st.integers(0, 2000), st.integers(0, 2000))
def test_a_fault_is_found_among_many_warnings(fault: tuple[FaultKind, str], before: int, after: int) -> None:
    kind, text = fault
    noise = "a.c:3:5: warning: unused variable 'x' [-Wunused-variable]\n"
    assert kind_of(noise * before + text + noise * after) is kind


@pytest.mark.parametrize(
    "piece", ["\n", "x\n", "error\n", "a:1:", "(" * 50, "No space left on device ", " " * 9, "[] Killed"]
)
def test_a_text_of_many_megabytes_takes_no_time(piece: str) -> None:
    text = piece * (32_000_000 // len(piece))
    begin = time.process_time()
    fault_of(2, text, text, "")
    assert time.process_time() - begin < 10


def test_a_fault_is_a_value() -> None:
    assert Fault(FaultKind.DISK, "x") == Fault(FaultKind.DISK, "x")
