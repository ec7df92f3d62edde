"""The identity of a machine's compilers: another one whenever something else may come out, and only then."""

import os
import shutil
import subprocess
import sys

import pytest

from fabbuild.bundle import worker_bundle
from fabbuild.worker import identity
from fabbuild.worker.environment import base_environment
from fabbuild.worker.identity import Identities
from fabbuild.worker.toolchain import from_path


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


def test_a_compiler_that_cannot_be_asked_has_none(gcc):
    chain = from_path("sandbox", str(gcc))
    gcc.write_text("#!/bin/sh\nexit 1\n")
    assert Identities("", base_environment(os.environ), "code").of(chain) == ""


def test_the_workers_own_code_is_the_same_in_the_program_that_is_sent(tmp_path):
    bundle = tmp_path / "worker.pyz"
    bundle.write_bytes(worker_bundle().data)
    ask = "from fabbuild.worker import identity; print(identity.own_code())"
    said = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(bundle)!r}); {ask}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == identity.own_code()
