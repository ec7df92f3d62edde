"""Every option of `build` that reaches a worker means the same on a machine over SSH as here, and is seen to work."""

import dataclasses
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fabbuild.cli.options import BUILD
from fabbuild.config.settings import BuildSettings
from tests.support.trouble import tool
from tests.whole.test_peer import BUILDMAN


@dataclass
class Ran:
    """What one machine made of a run: its results by place, the makes it ran, and what went over its wire."""

    results: dict[str, dict[str, bytes]]
    makes: list[str]
    wire: str

    def file(self, board: str, name: str) -> str:
        """Give a file of a board's last commit, empty when it has none of that name."""
        found = [files for place, files in sorted(self.results.items()) if place.endswith(f"/{board}")]
        return found[-1].get(name, b"").decode()

    def whole(self) -> list[str]:
        """Give the makes without a goal."""
        return [make for make in self.makes if not re.search(r" (?!-)[^ =]+$", make)]

    def goals(self, words: str) -> int:
        return sum(bool(re.search(rf"(?:^| ){re.escape(words)}(?: |$)", make)) for make in self.makes)


#: Runs of options that can be had together: what is built, and each option with its value and what shows it. What
#: fails has one thread: with more make says, or does not, that it waits for what else it had begun.
RUNS: dict[str, tuple[list[str], dict[str, tuple[list[str], Callable[[Ran], object]]]]] = {
    "what make is told": (
        ["--only", "plover"],
        {
            "no_lto": (["--no-lto"], lambda ran: "-flto" not in ran.file("plover", "log")),
            "verbose_build": (["--verbose-build"], lambda ran: "gcc -Wall" in ran.file("plover", "log")),
            "reproducible": (["--reproducible"], lambda ran: ran.goals("SOURCE_DATE_EPOCH=0") == len(ran.makes)),
            "allow_missing": (["--allow-missing"], lambda ran: "images are invalid" in ran.file("plover", "err")),
            "fragments": (["--fragments", "slow-led.config"], lambda ran: ran.goals("slow-led.config") == 1),
            "adjust_cfg": (
                ["--adjust-cfg", "LOCALVERSION=-mine,~SERIAL_SUNFISH", "--adjust-cfg", "BLOB=fw.bin"],
                lambda ran: 'LOCALVERSION="-mine"' in ran.file("plover", ".config") and ran.goals("olddefconfig"),
            ),
            "keep_outputs": (["--keep-outputs"], lambda ran: "u-boot.map" in ran.results["current/plover"]),
            "keep": (["--keep", "lib/*.o"], lambda ran: "lib-crc32.o" in ran.results["current/plover"]),
            "force": (["--force"], lambda ran: '"force_build": true' in ran.wire),
            "toolchain": (
                ["--toolchain", "arm=arm-linux-gnueabihf-"],
                lambda ran: "arm-linux-gnueabihf-" in ran.file("plover", "out-cmd"),
            ),
            "threads": (["--threads", "1"], lambda ran: ran.goals("-j1") == len(ran.makes)),
            "timeout": (["--timeout", "600"], lambda ran: '"timeout": 600.0' in ran.wire),
            "verbose_worker": (["--verbose-worker"], lambda ran: "W: command configure" in ran.wire),
        },
    ),
    "what is done when": (
        ["--only", "plover", "--branch", "series", "--count", "2", "--threads", "1"],
        {
            "werror": (["--werror"], lambda ran: "-Werror" in ran.file("plover", "err")),
            "mrproper": (["--mrproper"], lambda ran: ran.goals("mrproper") == 2),
            "jobserver": (
                ["--no-jobserver"],
                lambda ran: '"jobserver": false' in ran.wire and all(" -j" in make for make in ran.makes),
            ),
            "max_boards": (["--max-boards", "1"], lambda ran: '"max_boards": 1' in ran.wire),
        },
    ),
    "what is made": (
        ["--only", "tern,sandbox", "--branch", "series", "--count", "2", "--threads", "1"],
        {
            "target": (["--target", "u-boot.bin"], lambda ran: ran.goals("u-boot.bin") >= 4 and not ran.whole()),
            "force_reconfig": (["--force-reconfig"], lambda ran: ran.goals("tern_defconfig") == 2),
            "kconfig_check": (["--no-kconfig-check"], lambda ran: '"kconfig_check": false' in ran.wire),
            "batch": (["--batch"], lambda ran: '"cmd": "build_boards"' in ran.wire),
            "ccache": (["--ccache"], lambda ran: '"ccache": true' in ran.wire),
            "light_tools": (["--no-light-tools"], lambda ran: '"light_tools": false' in ran.wire),
            "debug_info": (["--debug-info"], lambda ran: '"debug_info": true' in ran.wire),
            "outputs": (["--outputs", "1.5G"], lambda ran: '"outputs": "1.5G"' in ran.wire),
            "env": (["--env", "MINE=a, b"], lambda ran: 'MINE="a, b"\n' in ran.file("tern", "out-env")),
            "share_objects": (["--no-share-objects"], lambda ran: '"share_objects": false' in ran.wire),
        },
    ),
    "only configured": (
        ["--only", "tern"],
        {"config_only": (["--config-only"], lambda ran: ran.goals("cfg") and not ran.goals("u-boot.bin"))},
    ),
    "a failure": (
        ["--only", "sandbox_spl", "--commits", "main..series~3", "--threads", "1"],
        {
            "fallback_mrproper": (["--fallback-mrproper"], lambda ran: ran.goals("mrproper") == 1),
            # Once at the first commit, once after mrproper, and not for another try of the second before that.
            "quick": (["--quick"], lambda ran: ran.goals("sandbox_spl_defconfig") == 2),
        },
    ),
}

#: Options that no worker hears of, or that another test runs on machines.
ELSEWHERE = {
    "what to build": "boards exclude only affected source branch commits patches onto version count step force_failures",
    "where": "output machines hosts machines_file no_local strict_toolchains one_pack",
    "how long, and how often, a machine is awaited (test_lost_machines, test_two_bosses, worker/supervisor/test_lifeline)": (
        "wait silence stall patience restarts"
    ),
    "in which order, and what need not be built, or twice": "order reuse audit_reuse backup stop_at",
    "what is shown": "ignore_warnings quiet json ide summary report reply junit trace dry_run",
}


def test_every_option_has_its_place():
    """A new option of `build` goes into RUNS when a worker is to heed it, else into ELSEWHERE."""
    told = {name for _, options in RUNS.values() for name in options}
    others = {name for names in ELSEWHERE.values() for name in names.split()}
    assert told | others == BUILD.keys()
    assert not told & others
    plain = BuildSettings()
    for field in dataclasses.fields(BuildSettings):
        value = getattr(plain, field.name)
        other = not value if isinstance(value, bool) else ("FOO",) if value == () else "x" if value == "" else value
        changed = dataclasses.replace(plain, **{field.name: other})
        assert field.name in told or changed.wire_settings() == plain.wire_settings(), field.name


def run_on(farm, machine: str, logs: Path, arguments: list[str]) -> Ran:
    log = logs / f"{machine}.makes"
    log.write_text("")
    output = farm.directory / f"out-{machine}"
    farm.run(
        "build",
        "--source",
        str(farm.source),
        "--output",
        str(output),
        "--machines",
        machine,
        "--no-reuse",
        *arguments,
    )
    (root,) = (path for path in output.iterdir() if path.is_dir())
    results = {
        str(done.parent.relative_to(output)): {path.name: path.read_bytes() for path in done.parent.iterdir()}
        for done in root.rglob("done")
    }
    wire = (root / ".fabbuild" / f"worker-{machine}.log").read_text()
    # gcc runs a make of its own for link-time optimisation.
    makes = [line for line in log.read_text().splitlines() if line.startswith("O=")]
    return Ran(results, makes, wire)


def same(one: dict[str, bytes]) -> dict[str, object]:
    """Leave out what is the machine's: its name, where its log says it worked, and how long it took."""
    kept: dict[str, object] = {name: data for name, data in one.items() if name not in ("host", "log", "out-env")}
    built = json.loads(one["built-from"])
    kept["built-from"] = {name: value for name, value in built.items() if name not in ("machine", "seconds")}
    return kept


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "only configured" else pytest.mark.deep) for name in RUNS]
)
def test_an_option_means_the_same_on_a_remote_machine_as_here(farm, machines, census, tmp_path, name):
    what, options = RUNS[name]
    m1 = machines[0]
    farm.env["INVOKE_FABBUILD_SSH_CONFIG"] = str(m1.ssh_config)
    census.watch(m1.work_dir)
    subprocess.run(["rm", "-rf", str(m1.work_dir)], check=True)
    entries = {
        "m1": {"host": "m1", "work_dir": str(m1.work_dir)},
        "local": {"connection": "local", "work_dir": str(farm.directory / "work local")},
    }
    for machine, entry in entries.items():
        script = f'[ "$1" = --version ] || echo "$*" >>{tmp_path}/{machine}.makes\nexec {{real}} "$@"'
        entry["env"] = tool(tmp_path / f"tools-{machine}", "make", script)
    farm.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000}})
    arguments = [*what, *(word for given, _ in options.values() for word in given)]
    if "reproducible" not in options:
        arguments.append("--reproducible")  # else the time of the build is in the images
    remote, here = (run_on(farm, machine, tmp_path, arguments) for machine in ("m1", "local"))
    for option, (_, shown) in options.items():
        for ran in (remote, here):
            assert shown(ran), (option, ran.makes, ran.results, ran.wire[:5000])
    assert remote.results.keys() == here.results.keys()
    for place, files in remote.results.items():
        assert same(files) == same(here.results[place]), place
    # Both slots of a machine are at it in batches, in any order.
    assert sorted(remote.makes) == sorted(here.makes)


OLD = """
import json, sys
def say(**fields):
    print("BM> " + json.dumps(fields), flush=True)
say(resp="ready", nthreads=1, slots=1, protocol=1, features=["attempt", "commits", "details", "limits"])
for line in sys.stdin:
    say(resp={"configure": "configure_done"}.get(json.loads(line)["cmd"], "error"), msg="it was used")
"""


def test_a_worker_that_lacks_a_setting_is_not_used_and_the_plain_one_is_asked_for_nothing_new(farm, tmp_path):
    (tmp_path / "old.py").write_text(OLD)
    commands = {"old": f"python3 {tmp_path}/old.py"}
    if BUILDMAN.exists():
        commands["peer"] = f"exec {BUILDMAN} --worker"
    entries = {
        name: {
            "connection": "local", "work_dir": str(tmp_path / name), "worker_command": command,
            "env": {"HOME": str(farm.directory)},
        }
        for name, command in commands.items()
    }  # fmt: skip
    farm.write_machines({"machines": entries, "fit": {"max_load_per_cpu": 1000}})
    ended = farm.build("--only", "sandbox", "--adjust-cfg", "LED", "--keep-outputs")
    assert ended.status == 102, ended
    for name in commands:
        assert f"{name} is out: its worker does not know adjust-cfg, keep-outputs, and would build" in ended.out
    assert "it was used" not in ended.out
    if "peer" in commands:
        plain = farm.build("--only", "sandbox", "--machines", "peer")
        assert plain.status == 0, plain
        wire = (farm.output / "current" / ".fabbuild" / "worker-peer.log").read_text()
        assert "configure_done" in wire
        assert not re.search(r"adjust_cfg|keep|quick|fragments|force_reconfig|features", wire)
