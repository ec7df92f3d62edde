"""What leaves this machine: no source to a changed host key, no agent, no secret of the user's, and what arrives is private."""

import os
import re
import stat
import subprocess

import pytest
import yaml

from tests.support.census import HANG_LIMIT, wait_until
from tests.support.sshd import make_sshd
from tests.support.trouble import tool

SECRET = "hunter2-is-no-secret"

#: What a machine runs in place of every command: it notes the environment first.
NOTE_SESSION = """#!/bin/sh
{ echo "-- $SSH_ORIGINAL_COMMAND"; env; } >>@LOG@
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


def ssh_that_waits(place, work_dir):
    """An ssh that, before it logs in for git, says so and waits to be let go."""
    case = f'case "$*" in *{work_dir}*) touch {place}/waits; until [ -e {place}/go ]; do sleep 0.05; done;; esac'
    return tool(place, "ssh", f'#!/bin/sh\n{case}\nexec {{real}} "$@"\n')


class Watched:
    """A machine of its own, w1, that notes every session, and the user's ssh configuration for it and m2."""

    def __init__(self, farm, machines, base):
        self.farm = farm
        self.base = base
        base.mkdir()
        self.server = make_sshd(base, "w1", "127.0.0.6", f"ForceCommand {self.notes(base)}\n")
        self.known_hosts = self.server.known_hosts
        self.sections = self.server.ssh_config.read_text() + machines[1].ssh_config.read_text()
        self.configure()
        farm.servers = [self.server]
        self.server.start()
        farm.machines(self.server)

    @staticmethod
    def notes(base):
        script = base / "note-session"
        script.write_text(NOTE_SESSION.replace("@LOG@", str(base / "sessions")))
        script.chmod(0o755)
        return script

    def configure(self, first=""):
        """Write the user's ssh configuration; what comes first in it wins."""
        config = self.farm.directory / "ssh_config"
        config.write_text(first + self.sections)
        self.farm.env["INVOKE_FABBUILD_SSH_CONFIG"] = str(config)
        return config

    @property
    def sessions(self):
        path = self.base / "sessions"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def watched(ssh_farm, machines, tmp_path, census):
    made = Watched(ssh_farm, machines, tmp_path / "watched")
    yield made
    made.server.kill(everything=True)


def told(farm, ended):
    """All that a command showed and wrote into its logs."""
    logs = farm.output.rglob("*") if farm.output.exists() else ()
    return ended.out + ended.err + "".join(path.read_text(errors="replace") for path in logs if path.is_file())


# --- host keys ----------------------------------------------------------------------------------------------


def test_a_machine_with_a_changed_host_key_gets_nothing_and_the_others_build(ssh_farm, machines, watched):
    ssh_farm.machines(watched.server, machines[1])
    wrong = machines[0].host_key.with_suffix(".pub").read_text()
    watched.known_hosts.write_text(f"[{watched.server.host}]:{watched.server.port} {wrong}")
    ended = ssh_farm.build("--only", "sandbox")
    assert ended.status == 0, ended
    assert ssh_farm.output.joinpath("current/sandbox/host").read_text() == "m2\n"
    assert re.search(rf"w1 is out: .* has changed.* {re.escape(str(watched.known_hosts))} line 1\b", ended.out), (
        ended
    )
    for task in ("probe", "push"):
        options = ["--source", str(ssh_farm.source)] if task == "push" else []
        alone = ssh_farm.run(task, *options, "--machines", "w1")
        assert alone.status == 1, alone
        assert "has changed" in alone.out, alone
    assert "Accepted" not in watched.server.log
    assert not watched.sessions
    assert not watched.server.work_dir.exists()


def test_a_machine_whose_key_changes_after_the_login_gets_no_source(ssh_farm, watched, tmp_path):
    server = watched.server
    tools = ssh_that_waits(tmp_path / "tools", server.work_dir)
    process = ssh_farm.start(
        "build", "--source", str(ssh_farm.source), "--output", str(ssh_farm.output), "--only", "sandbox", **tools
    )
    wait_until((tmp_path / "tools" / "waits").exists)
    server.stop()
    base = tmp_path / "impostor"
    base.mkdir()
    impostor = make_sshd(base, "w1", server.host, f"ForceCommand {watched.notes(base)}\n", port=server.port)
    base.joinpath("authorized_keys").write_bytes(server.user_key.with_suffix(".pub").read_bytes())
    impostor.start()
    try:
        (tmp_path / "tools" / "go").touch()
        out, err = process.communicate(timeout=HANG_LIMIT)
        assert process.returncode == 102, (out, err)
        assert "Host key verification failed" in out, (out, err)
        assert "Connection from" in impostor.log
        assert "Accepted" not in impostor.log
        assert not (base / "sessions").exists()
    finally:
        impostor.kill(everything=True)


# --- the agent, the environment, secrets ----------------------------------------------------------------------


@pytest.fixture
def agent(tmp_path, watched):
    """A real agent that holds the user's key; gives the environment that leads to it."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists)
        env = {"SSH_AUTH_SOCK": str(socket)}
        subprocess.run(
            ["ssh-add", "-q", watched.server.user_key], env={**os.environ, **env}, check=True, capture_output=True
        )
        yield env
    finally:
        process.kill()
        process.wait()


def test_the_agent_stays_here_also_where_the_user_forwards_it(ssh_farm, watched, agent):
    config = watched.configure("Host *\n    ForwardAgent yes\n")
    ended = ssh_farm.build("--only", "sandbox", **agent)
    assert ended.status == 0, ended
    assert watched.sessions.count("\n-- ") >= 3
    assert "--pack receive-pack" in watched.sessions, "the push"
    assert "SSH_AUTH_SOCK" not in watched.sessions
    # The user's own ssh does forward it: this is a machine that would have taken it.
    subprocess.run(["ssh", "-F", config, "w1", "true"], env={**os.environ, **agent}, check=True, timeout=HANG_LIMIT)
    assert "SSH_AUTH_SOCK" in watched.sessions


#: Variables that a make may see: which tools and places, which language, how to build; and what make itself adds.
ALLOWED = {
    "CCACHE_DIR", "CCACHE_NODIRECT", "CROSS_COMPILE", "HOME", "KBUILD_OUTPUT", "LANG", "LC_ALL", "LOGNAME", "MAKEFLAGS", "MAKELEVEL", "MFLAGS",
    "MINE", "OLDPWD", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE", "SHELL", "SHLVL", "SOURCE_DATE_EPOCH", "TEMP", "TERM", "TMP", "TMPDIR", "USER",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "_",
}  # fmt: skip


@pytest.mark.deep
def test_no_variable_of_the_user_or_of_the_login_reaches_a_build(ssh_farm, watched, tmp_path):
    env = tool(
        tmp_path / "tools",
        "make",
        f'#!/bin/sh\n[ "$1" = --version ] || env >>{tmp_path}/seen\nexec {{real}} "$@"\n',
    )
    watched.server.config.write_text(f"SetEnv LOGIN_TOKEN={SECRET}\n{watched.server.config.read_text()}")
    watched.server.kill()
    watched.server.start()
    ssh_farm.machines(watched.server, local=True, env={**env, "MINE": "yes"})
    secrets = {"BOSS_TOKEN": SECRET, "CROSS_COMPILE": "wrong-", "KBUILD_VERBOSE": "1", "MAKEFLAGS": "--trace"}
    for machine in ("w1", "local"):
        ended = ssh_farm.build("--only", "sandbox,tern", "--force", "--machines", machine, **secrets)
        assert ended.status == 0, ended
        assert SECRET not in told(ssh_farm, ended)
    assert f"LOGIN_TOKEN={SECRET}" in watched.sessions
    assert "BOSS_TOKEN" not in watched.sessions
    seen = (tmp_path / "seen").read_text()
    assert "MINE=yes" in seen
    assert SECRET not in seen
    names = {line.split("=", 1)[0] for line in seen.splitlines() if "=" in line}
    assert names <= ALLOWED, names - ALLOWED


#: Ways in which a login or a push goes wrong; each is told without what would let others in.
TROUBLES = {
    "a key that ssh finds too open": lambda key: key.chmod(0o644),
    "a key with a passphrase": lambda key: subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", SECRET, "-f", key], check=True, capture_output=True
    ),
    "a key that is none": lambda key: key.write_text("no key\n"),
    "a login that is refused": lambda key: key.with_name("authorized_keys").write_text(""),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_no_password_and_no_path_of_a_key_is_told_when_a_login_fails(ssh_farm, watched, trouble):
    (ssh_farm.directory / "invoke.yaml").write_text(yaml.safe_dump({"connect_kwargs": {"password": SECRET}}))
    trouble(watched.server.user_key)
    ended = ssh_farm.build("--only", "sandbox", "--verbose-worker")
    assert ended.status == 102, ended
    # In Permission denied there is a reason as good as any: git's own words would tell none.
    assert "refused the login" in ended.out or "Permission denied" in ended.out, ended
    everything = told(ssh_farm, ended)
    assert SECRET not in everything
    assert str(watched.server.user_key) not in everything
    assert "Traceback" not in everything


# --- what arrives -------------------------------------------------------------------------------------------


def open_to_others(directory):
    """What in a directory somebody else than its owner could read, write or enter; what is in a closed one is closed."""
    found = []
    for path in directory.iterdir():
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & 0o077:
            found.append(f"{stat.filemode(mode)} {path}")
            found += open_to_others(path) if path.is_dir() else []
    return found


@pytest.mark.parametrize("name", ["work", "wo rk"])
def test_files_on_a_machine_are_readable_by_their_owner_only(ssh_farm, watched, tmp_path, name):
    work_dir = watched.server.directory / name
    work_dir.mkdir()
    work_dir.chmod(0o755)  # as a user makes one, who does not think of it
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    entry = {"host": "w1", "work_dir": str(work_dir), "env": {"TMPDIR": str(elsewhere)}}
    ssh_farm.write_machines({"machines": {"w1": entry}, "fit": {"max_load_per_cpu": 1000}})
    ended = ssh_farm.build("--only", "sandbox", "--verbose-worker")
    assert ended.status == 0, ended
    assert (work_dir / "slots").is_symlink() == (name == "wo rk")
    assert (work_dir / "slots").resolve().is_relative_to(elsewhere if name == "wo rk" else work_dir)
    assert len(list((work_dir / "slots").resolve().rglob("*.o"))) > 5
    assert open_to_others(work_dir) == []
    assert open_to_others(elsewhere) == []
    assert str(watched.server.user_key) not in told(ssh_farm, ended)
