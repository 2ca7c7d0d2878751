# SPDX-License-Identifier: GPL-3.0-or-later
"""The Makefile's own messages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("content", [None, "Host test-vm-2\n"])
def test_without_the_guest_vm_ssh_says_what_to_run(content: str | None, tmp_path: Path) -> None:
    config = tmp_path / "config"
    if content is not None:
        config.write_text(content)
    result = make("vm-ssh", "VM=test-vm", f"SSH_CONFIG={config}")
    assert result.returncode != 0
    assert f"{config} has no guest test-vm; start it: make vm" in result.stderr


@pytest.mark.parametrize(("state", "status"), [("shut off", 0), ("running", 2)])
def test_vm_stop_waits_until_the_vm_is_off(state: str, status: int, tmp_path: Path) -> None:
    for name, script in {"virsh": f"echo {state}", "timeout": 'shift; exec /usr/bin/timeout 1 "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    result = make("vm-stop", f"VIRSH={tmp_path}/virsh", f"AS_ROOT=env PATH={tmp_path}:/usr/bin:/bin")
    assert (result.returncode, "is still on" in result.stderr) == (status, status != 0)
