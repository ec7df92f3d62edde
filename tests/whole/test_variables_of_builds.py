"""The user's own firmware goes to machines, over SSH and here, and a result is that of its content."""

import pytest


@pytest.mark.deep
def test_firmware_in_the_users_environment_is_what_machines_build_with(ssh_farm):
    makefile = ssh_farm.source / "Makefile"
    makefile.write_text("$(info firmware $(shell cat $(BL31)))\n" + makefile.read_text())
    firmware = ssh_farm.directory / "bl31.bin"
    # The work directory here has a blank in its name, which no Makefile can take.
    ssh_farm.machines(ssh_farm.servers[0], local=True)

    def built(machine: str, content: str, *options: str) -> tuple[str, str]:
        firmware.write_text(content)
        ended = ssh_farm.build(
            "--only", "sandbox", "--machines", machine, *options, BL31=str(firmware), KCFLAGS="-O1"
        )
        assert ended.status == 0, ended
        assert "builds get from your environment: BL31" in ended.out
        assert "not passed on to builds: KCFLAGS" in ended.out
        place = ssh_farm.output / "current" / "sandbox"
        assert "bl31.bin" in (place / "out-env").read_text()
        return (place / "log").read_text(), ended.out

    assert "firmware one" in built("m1", "one")[0]
    log, out = built("m1", "two")
    assert "firmware two" in log
    assert "of these" not in out
    log, out = built("m1", "one")
    assert "firmware one" in log
    assert "0 built, 1 reused" in out
    log, out = built("local", "two", "--force")
    assert "firmware two" in log
    # The same content is the same firmware, on whichever machine.
    assert "0 results to build, 1 there already" in built("m1", "two")[1]
    kept = ssh_farm.servers[0].work_dir / "files"
    assert len([path for path in kept.iterdir() if not path.name.startswith(".")]) == 1
