# SPDX-License-Identifier: GPL-3.0-or-later
"""nixos-anywhere's command line, its timeout, and what its log must not hold."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, WaitTimeout
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos import nixos_anywhere
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.ssh import Target

WEB = Target(name="web", address="192.168.100.20", port=2222, user="alice", ssh_key="/keys/web")
TARGET = ["--target-host", "alice@192.168.100.20", "--ssh-port", "2222", "-i", "/keys/web"]
FLAKE = {"flake": "/etc/nixos#web"}
BUILT = {"toplevel": "/nix/store/a", "disko_script": "/nix/store/b"}


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        (FLAKE, ["--flake", "/etc/nixos#web"], []),
        (BUILT, ["--store-paths", "/nix/store/b", "/nix/store/a"], []),
        ({**FLAKE, "password": "secret"}, ["--flake", "/etc/nixos#web"], ["--env-password"]),
        (
            {
                **FLAKE,
                "phases": ["disko", "install"],
                "kexec": "/k.tar.gz",
                "post_kexec_ssh_port": 2222,
                "build_on": "remote",
                "hardware_config": {"backend": "nixos-facter", "path": "/etc/nixos/facter.json"},
                "extra_files": "/extra",
                "disk_encryption_keys": [{"remote": "/run/a", "local": "/a"}, {"remote": "/run/b", "local": "/b"}],
                "copy_host_keys": True,
                "extra_arguments": ["--debug"],
            },
            ["--flake", "/etc/nixos#web"],
            [
                *("--phases", "disko,install", "--kexec", "/k.tar.gz", "--post-kexec-ssh-port", "2222"),
                *("--build-on", "remote"),
                *("--generate-hardware-config", "nixos-facter", "/etc/nixos/facter.json", "--extra-files", "/extra"),
                *("--disk-encryption-keys", "/run/a", "/a", "--disk-encryption-keys", "/run/b", "/b"),
                *("--copy-host-keys", "--debug"),
            ],
        ),
    ],
)  # fmt: skip
def test_the_command_line(options: dict[str, Any], before: list[str], after: list[str]) -> None:
    assert nixos_anywhere.arguments(WEB, options) == [*before, *TARGET, *after]


def test_the_log_has_all_but_the_password(tmp_path: Path) -> None:
    log = tmp_path / "log"
    said = nixos_anywhere.run(["sh", "-c", 'echo "### step ###"; echo "with $SSHPASS" >&2'], log, 60, "hush")
    assert log.read_text() == "### step ###\nwith ********\n"
    assert said == ["### step ###", "with ********"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_the_log_has_nothing_that_a_terminal_would_interpret(tmp_path: Path) -> None:
    said = nixos_anywhere.run(["printf", "### \\033[2J ###\\n"], tmp_path / "log", 60)
    assert (tmp_path / "log").read_text() == "### \ufffd[2J ###\n"
    assert said == ["### \ufffd[2J ###"]


def test_a_failure_reports_its_status_and_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"(?s)exit status 3.*no disk"):
        nixos_anywhere.run(["sh", "-c", "echo no disk; exit 3"], tmp_path / "log", 60)


def test_a_hanging_installation_is_ended_with_its_child_processes(tmp_path: Path) -> None:
    script = "sleep 600 & echo $!; trap '' TERM; wait"
    with pytest.raises(WaitTimeout, match="did not end within 1 s"):
        nixos_anywhere.run(["sh", "-c", script], tmp_path / "log", 1)
    child = int((tmp_path / "log").read_text())
    assert is_gone(child)


def test_two_installations_of_a_machine_do_not_run_at_once(tmp_path: Path) -> None:
    log, ended = tmp_path / "log", tmp_path / "ended"
    script = f"while [ ! -e {ended} ]; do sleep 0.05; done"
    first = Thread(target=nixos_anywhere.run, args=(["sh", "-c", f"echo started; {script}"], log, 60))
    first.start()
    wait_for(lambda: log.exists() and log.read_text() == "started\n")
    with pytest.raises(HostError, match=r"another installation that writes to .*log is still running"):
        nixos_anywhere.run(["true"], log, 60)
    ended.touch()
    first.join(60)
    assert log.read_text() == "started\n"


def wait_for(condition: Callable[[], bool], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_gone(pid: int, timeout: float = 10) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    return False
