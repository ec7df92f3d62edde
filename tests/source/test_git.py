"""The runner of git."""

import pytest

from fabbuild.source.git import Git, GitError, clean_environment, last_words


def test_git_is_quoted_in_one_line():
    text = "remote: Counting objects:  50% (1/2)\rhint: x\nerror: one\nerror: one\nfatal: two\x1b[0m\n"
    assert last_words(text) == "error: one; fatal: two [0m"
    assert last_words("ssh: no such host\nbye\n") == "ssh: no such host; bye"
    assert last_words("") == ""
    assert len(last_words("fatal: " + "x" * 5000)) == 300


def test_a_git_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="git is not installed"):
        Git(tmp_path).run("version")
    with pytest.raises(GitError, match="no such directory"):
        Git(tmp_path / "missing").run("version")


def test_the_environment_keeps_what_a_user_says_on_purpose(monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -v")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/x")
    monkeypatch.setenv("GIT_DIR", "/y")
    env = clean_environment()
    assert env["GIT_SSH_COMMAND"] == "ssh -v"
    assert env["GIT_CONFIG_GLOBAL"] == "/x"
    assert "GIT_DIR" not in env
