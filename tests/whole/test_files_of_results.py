"""Every result carries its configuration and the sizes of its functions, from machines over SSH."""

import json
import re
import subprocess

import pytest

from tests.support.census import HANG_LIMIT
from tests.whole.test_peer import BUILDMAN

CONFIGURATION = {".config", "u-boot.cfg", "autoconf.mk", "autoconf.h"}


def pieces(farm, name, machine="m1"):
    """Give (board, commit, file) of each piece that came over a machine's wire, in order."""
    text = (farm.output / name / ".fabbuild" / f"worker-{machine}.log").read_text()
    found = re.findall(r'<< BM> (\{"resp": "build_file".*?), "data"', text)
    messages = [json.loads(head + "}") for head in found]
    return [(m["board"], m["commit_upto"], m["name"]) for m in messages]


def test_every_result_has_its_configuration_and_function_sizes_and_each_goes_over_the_wire_once(ssh_farm, machines):
    ssh_farm.machines(machines[0])
    left = ssh_farm.output / "series" / ".fabbuild" / "incoming" / "7" / "0"
    left.mkdir(parents=True)
    (left / ".config").write_text("of a boss that was killed")
    ended = ssh_farm.build("--branch", "series", "--only", "sandbox_spl,tern")
    assert ended.status == 100, ended
    results = ssh_farm.results("series")
    assert len(results) == 12
    for (commit, board), place in results.items():
        there = {path.name for path in place.iterdir()}
        assert there >= CONFIGURATION, (commit, board)
        broken = board == "sandbox_spl" and commit.startswith("03")
        assert ("u-boot.sizes" in there) is not broken
        assert ("spl-u-boot-spl.sizes" in there) is (board == "sandbox_spl" and not broken)
        assert len({path.name for path in place.iterdir() if path.stat().st_nlink > 1}) >= 4
    listed = next(results[key] for key in results if key[1] == "tern") / "u-boot.sizes"
    assert all(re.fullmatch(r"[0-9a-f]+ [A-Za-z] \S+", line) for line in listed.read_text().splitlines())
    sent = pieces(ssh_farm, "series")
    # The fifth commit changes tern's code, and nothing else of these changes.
    assert sorted(key for key in sent if key[0] == "tern") == sorted(
        [("tern", 0, name) for name in (*CONFIGURATION, "depends", "u-boot.sizes")] + [("tern", 4, "u-boot.sizes")]
    )
    assert not (ssh_farm.output / "series" / ".fabbuild" / "incoming").exists()


@pytest.mark.deep
def test_what_is_kept_comes_back_and_what_was_not_kept_is_built_again_for_it(ssh_farm, machines, tmp_path):
    ssh_farm.machines(machines[0])
    asked = ["--branch", "series", "--only", "sandbox_spl", "--reproducible"]
    ended = ssh_farm.build(*asked, "--keep-outputs", "--keep", "lib/**/*.o,nothing/*")
    assert ended.status == 100, ended
    results = ssh_farm.results("series")
    places = [results[key] for key in sorted(results)]
    built = machines[0].work_dir / "slots" / "00" / "build"
    kept = {
        "u-boot": "u-boot", "u-boot.bin": "u-boot.bin", "u-boot.map": "u-boot.map", "System.map": "System.map",
        "u-boot-spl": "spl/u-boot-spl", "u-boot-spl.bin": "spl/u-boot-spl.bin", "lib-crc32.o": "lib/crc32.o",
    }  # fmt: skip
    for name, place in kept.items():
        assert (places[-1] / name).read_bytes() == (built / place).read_bytes(), name
    # At the third commit its first stage does not build: what is there is of that commit, or not there.
    assert not (places[2] / "u-boot-spl").exists()
    assert (places[2] / "u-boot-spl.map").exists() is False
    assert len({path.name for path in places[0].iterdir() if path.is_dir()}) == 0
    assert pieces(ssh_farm, "series").count(("sandbox_spl", 0, "lib-crc32.o")) == 1
    for more, what in (
        (["--keep", "lib/**/*.o"], "6 there already"),
        (["--keep", "common/*.o"], "6 results"),
    ):
        ended = ssh_farm.build(*asked, *more)
        assert what in ended.out.splitlines()[0], ended
    shown = subprocess.run(
        [str(BUILDMAN), "-s", "-e", "-S", "-d", "-B", "-K", "-o", str(ssh_farm.output), "-b", "series", "sandbox_spl"],
        cwd=ssh_farm.source, env=ssh_farm.env, capture_output=True, text=True, check=False, timeout=HANG_LIMIT,
    )  # fmt: skip
    assert "Traceback" not in shown.stderr, shown
    assert "03: sandbox: spl: Check" in shown.stdout, shown
