# SPDX-License-Identifier: GPL-3.0-or-later
"""ssh's command line, and what becomes of its error messages."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.ssh import (
    Connection,
    OtherHostKey,
    Target,
    refusal,
)
from ansible_collections.keystone.virtiofs.tests.unit import hostile

BY_PASSWORD = Target(name="web", address="127.0.0.1", password="hush")  # noqa: S106 - it is not a secret
WEB = Target(name="web", address="127.0.0.1", port=22220, ssh_key="/keys/web", known_hosts="/known hosts")


def test_host_keys_are_checked_under_the_guests_name_without_prompting() -> None:
    command = WEB.command("true")
    for option in (
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/known hosts",
        "HostKeyAlias=web",
        "BatchMode=yes",
        "ControlPath=none",
    ):
        assert option in command


def test_a_password_is_in_the_environment_and_used_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sshpass = tmp_path / "sshpass"
    sshpass.write_text('#!/bin/sh\necho "$SSHPASS" "$@"\n')
    sshpass.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = Connection(BY_PASSWORD).check("true")
    assert said.startswith("hush -e ssh -o BatchMode=no ")
    assert "-o NumberOfPasswordPrompts=1 " in said
    assert "hush" not in said[len("hush") :]


def test_a_password_needs_sshpass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="sshpass is not installed"):
        Connection(BY_PASSWORD).check("true")


OPTIONS = {"name": "web", "address": None, "port": None, "user": "root", "ssh_key": None, "known_hosts": "/known hosts"}


def test_a_host_key_that_is_given_is_the_only_one_accepted(tmp_path: Path) -> None:
    target = Target.of({**OPTIONS, "host_key": "ssh-ed25519 AAAA"}, str(tmp_path))
    assert (target.address, target.port) == ("web", 22)
    assert target.known_hosts is not None
    assert Path(target.known_hosts).read_text() == "web ssh-ed25519 AAAA\n"


@pytest.mark.parametrize("host_key", [None, ""])
def test_without_a_host_key_the_known_hosts_are_used(tmp_path: Path, host_key: str | None) -> None:
    assert Target.of({**OPTIONS, "host_key": host_key}, str(tmp_path)).known_hosts == "/known hosts"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", hostile.TEXTS, ids=hostile.label)
@pytest.mark.parametrize("option", ["name", "address", "user", "host_key"])
def test_a_hostile_word_reaches_no_file_and_no_command_line(tmp_path: Path, option: str, text: str) -> None:
    given = {**OPTIONS, "host_key": "ssh-ed25519 AAAA", option: text}
    try:
        target = Target.of(given, str(tmp_path))
    except InvalidInput:
        with pytest.raises(InvalidInput, match=f"^{option}: .*") as caught:
            Target.of(given, str(tmp_path))
        assert caught.value.fix
        assert list(tmp_path.iterdir()) == []
        return
    known = [file.read_text() for file in tmp_path.iterdir()]
    assert all(re.fullmatch(r"[A-Za-z0-9_]+ ssh-ed25519 AAAA\n", line) for line in known)
    assert re.fullmatch(r"[A-Za-z0-9_]*", f"{target.user}{target.address}")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "web-1.example.org"),
        ("address", "192.0.2.1"),
        ("address", "fe80::1%eth0"),
        ("address", "::ffff:192.0.2.1"),
        ("address", "web_1.example.org"),
        ("user", "alice"),
        ("user", "svc_deploy-1.x"),
        ("host_key", "ssh-rsa AAAA+/== root@web, a comment"),
    ],
)
def test_a_proper_word_is_taken(tmp_path: Path, option: str, value: str) -> None:
    target = Target.of({**OPTIONS, "host_key": None, option: value}, str(tmp_path))
    if option == "host_key":
        assert (tmp_path / "known_hosts").read_text() == "web ssh-rsa AAAA+/==\n"
    else:
        assert getattr(target, option) == value


def test_an_address_is_never_an_option() -> None:
    command = Target(name="web", address="-oProxyCommand=id").command("true")
    assert command[-3:-1] == ["--", "-oProxyCommand=id"]


@pytest.mark.parametrize(("user", "prefix"), [("root", []), ("alice", ["sudo", "-n"])])
def test_scripts_run_as_root_with_their_arguments(user: str, prefix: list[str]) -> None:
    target = Target(name="web", address="127.0.0.1", user=user)
    command = target.command('echo "$1"', "it's")
    assert shlex.split(command[-1]) == [*prefix, "sh", "-c", 'echo "$1"', "sh", "it's"]


@pytest.mark.parametrize(
    ("message", "problem", "fix"),
    [
        (
            "ssh: connect to host 127.0.0.1 port 22220: Connection refused",
            "Connection refused",
            "options address and port ",
        ),
        ("@ WARNING @\nIt is also possible\nHost key verification failed.", "verification failed", "set host_key "),
        ("root@127.0.0.1: Permission denied (publickey,password).", "Permission denied", "public key of ssh_key "),
        ("", "the connection ended", "console"),
    ],
)
def test_an_error_names_the_target_and_what_to_do(message: str, problem: str, fix: str) -> None:
    error = refusal(WEB, message)
    assert error.problem.startswith("cannot reach root@127.0.0.1 port 22220 over ssh: ")
    assert problem in error.problem
    assert fix in error.fix
    assert isinstance(error, OtherHostKey) == ("verification failed" in message)
