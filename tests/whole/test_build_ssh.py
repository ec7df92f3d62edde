"""The whole job over SSH: three real sshd machines, the sample tree, `inv` as a program."""


def test_a_branch_is_built_on_three_machines_over_ssh(ssh_farm):
    ended = ssh_farm.build("--branch", "series", "--exclude", "osprey", "--max-boards", "1")
    assert ended.status == 100, ended
    results = ssh_farm.results("series")
    assert len(results) == 9 * 6
    assert {path: (path / "done").read_text() for path in results.values()}
    failed = [key for key, path in results.items() if (path / "done").read_text() != "0\n"]
    assert [board for _, board in failed] == ["sandbox_spl"]
    assert failed[0][0].startswith("03_g")
    assert ssh_farm.hosts_of("series") == {"m1", "m2", "m3"}
    assert "sandbox_spl" in ended.out
    assert "HANDOFF_MAGIC" in ended.out
