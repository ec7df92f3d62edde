"""The identity of a machine's compilers: another one whenever something else may come out, and only then."""

import os
import shutil
import subprocess

import pytest

from fabbuild.protocol.environment import base_environment
from fabbuild.worker.deps.fingerprint import Identities
from fabbuild.worker.tools.toolchains import from_path
from tests.support.trouble import tool


@pytest.fixture
def gcc(tmp_path):
    """A compiler of our own, which is the machine's behind a script."""
    place = tmp_path / "tools" / "gcc"
    place.parent.mkdir()
    place.write_text(f'#!/bin/sh\nexec {shutil.which("gcc")} "$@"\n')
    place.chmod(0o755)
    return place


def of(gcc, **environ):
    environment = base_environment({**os.environ, **environ})
    return Identities("", environment, "code").of(from_path("sandbox", str(gcc)))


def test_it_stays_until_the_compiler_is_another_with_the_same_words(gcc):
    before = of(gcc)
    assert before == of(gcc) != ""
    gcc.write_text(gcc.read_text().replace('"$@"', '-O0 "$@"'))
    assert of(gcc) != before


def test_it_is_the_same_wherever_things_are_and_whoever_builds(gcc):
    environ = {"HOME": "/elsewhere", "USER": "somebody", "TMPDIR": "/elsewhere/tmp", "CCACHE_DIR": "/elsewhere/cc"}
    assert of(gcc) == of(gcc, **environ)


def test_it_is_another_when_a_variable_or_the_file_that_it_names_is(gcc, tmp_path):
    blob = tmp_path / "bl31.bin"
    blob.write_bytes(b"1")
    named = {"FABBUILD_ENV": "BL31", "BL31": str(blob)}
    seen = [of(gcc), of(gcc, **named)]
    blob.write_bytes(b"2")
    assert len({*seen, of(gcc, **named)}) == 3


def test_it_is_another_when_a_program_of_the_users_in_path_is_another(gcc, tmp_path):
    mine = tmp_path / "bin"
    mine.mkdir()
    path = {"PATH": f"{mine}:{os.environ['PATH']}"}
    seen = [of(gcc, **path)]
    for content in ("#!/bin/sh\necho 1\n", "#!/bin/sh\necho 2\n"):
        (mine / "fiptool").write_text(content)
        (mine / "fiptool").chmod(0o755)
        seen.append(of(gcc, **path))
    assert len(set(seen)) == 3
    (mine / "notes").write_text("no program\n")
    assert of(gcc, **path) == seen[-1]


def test_it_is_another_when_binman_has_fetched_a_program_or_the_user_a_first_module(gcc, tmp_path):
    home = {"HOME": str(tmp_path), "PYTHONUSERBASE": ""}
    memo = tmp_path / "memo"
    memo.mkdir()

    def now():
        environment = base_environment({**os.environ, **home})
        return Identities(str(memo), environment, "code").of(from_path("sandbox", str(gcc)))

    seen = [now(), now()]
    assert seen[0] == seen[1] != ""
    tool = tmp_path / ".binman-tools" / "fiptool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    seen.append(now())
    user = subprocess.run(
        ["python3", "-c", "import site; print(site.getusersitepackages())"],
        env={**os.environ, **home},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (tmp_path / os.path.relpath(user, tmp_path) / "pyelf").mkdir(parents=True)
    seen.append(now())
    assert len(set(seen)) == 3


def test_it_is_another_when_a_library_comes_before_another_one(tmp_path):
    # The machine's own, of which it is remembered what it is linked to.
    gcc = shutil.which("gcc")
    memo, first = tmp_path / "memo", tmp_path / "first"
    memo.mkdir()
    first.mkdir()

    def now(**environ):
        environment = base_environment({**os.environ, **environ})
        return Identities(str(memo), environment, "code").of(from_path("sandbox", str(gcc)))

    before = now(LD_LIBRARY_PATH=str(first))
    said = subprocess.run(["ldd", shutil.which("make")], check=True, capture_output=True, text=True).stdout
    library = next(word for word in said.split() if word.startswith("/") and "libc.so" in word)
    shutil.copy(library, first / os.path.basename(library))
    with open(first / os.path.basename(library), "ab") as file:
        file.write(b"\0")
    assert now(LD_LIBRARY_PATH=str(first)) != before


def test_what_programs_are_linked_to_is_asked_again_only_where_they_are_searched_for_elsewhere(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("FABBUILD_DIGESTS", str(tmp_path / "memo"))
    (tmp_path / "memo").mkdir()
    log = tmp_path / "asked"
    path = tool(tmp_path / "tools", "ldd", f'echo >>{log}; exec {{real}} "$@"')
    chain = from_path("sandbox", shutil.which("gcc"))

    def asked(**environ):
        log.write_text("")
        assert Identities("", base_environment({**os.environ, **path, **environ}), "code").of(chain)
        return len(log.read_text())

    assert asked() > 0
    assert asked(HOME="/elsewhere", TMPDIR="/elsewhere", XDG_CACHE_HOME="/elsewhere", CCACHE_DIR="/elsewhere") == 0
    assert asked(LD_LIBRARY_PATH=str(tmp_path)) > 0


def test_a_compiler_that_cannot_be_asked_has_none(gcc):
    chain = from_path("sandbox", str(gcc))
    gcc.write_text("#!/bin/sh\nexit 1\n")
    assert Identities("", base_environment(os.environ), "code").of(chain) == ""
