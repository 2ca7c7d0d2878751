# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of the role verify that read logs, on lines that libvirt, QEMU and virtiofsd really write."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

CHECKS = Path(__file__).parents[3] / "roles/verify/vars/main/checks.yml"
START = "2026-11-26 04:01:26.222+0000: starting up libvirt version: 11.3.0, qemu version: 10.0.3Debian, kernel: 6.12"
LOST = "2026-11-26T04:02:14.293641Z qemu-system-x86_64: Unexpected end-of-file before all data were read"
CONNECTED = """\
[2026-11-26T04:01:26Z WARN  virtiofsd::limits] Failure when trying to set the limit to 1000000
[2026-11-26T04:01:26Z INFO  virtiofsd] Waiting for vhost-user socket connection...
[2026-11-26T04:01:26Z INFO  virtiofsd] Client connected, servicing requests
"""
TOO_MANY = "[2026-11-26T04:01:26Z ERROR virtiofsd] Too many open files"
XML = """\
    <disk type='file' device='disk'><alias name='fs9'/></disk>
    <filesystem type='mount' accessmode='passthrough'>
      <target dir='a'/>
      <alias name='fs0'/>
    </filesystem>
    <filesystem type='mount' accessmode='passthrough'>
      <target dir='b'/>
      <alias name='ua-mine'/>
    </filesystem>
"""


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "domain.xml").write_text(XML)
    return tmp_path


def found(check_id: str, logs: Path) -> str:
    """What the check's command prints for domain "my vm"."""
    checks = yaml.safe_load(CHECKS.read_text())["_verify_checks"]
    command = next(check["command"] for check in checks if check["id"] == check_id)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - a shell's text
    environment.filters["quote"] = shlex.quote
    values = {"_verify_logs": str(logs), "verify_domain": "my vm", "_verify_virsh": f"cat {logs}/domain.xml; :"}
    text = environment.from_string(command).render(values)
    return subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([START, LOST], LOST),
        ([LOST, START], ""),
        (["qemu-system-x86_64: terminating on signal 15 from pid 7 (libvirtd)"], ""),
        (["2026-11-26T04:02:14.293641Z qemu-system-x86_64: terminating on signal 15 from pid 7 (libvirtd)"], ""),
        (["2026-11-26T04:02:14.293641Z qemu-system-x86_64: warning: host doesn't support requested feature"], ""),
        (["2026-11-26 04:01:28.222+0000: Starting external device: virtiofsd", "-name guest=qemu: x \\"], ""),
        (["2026-11-26 04:05:28.222+0000: shutting down, reason=crashed"], ""),
        (["qemu-kvm: cannot go on"], "qemu-kvm: cannot go on"),
    ],
)
def test_domain_log(logs: Path, lines: list[str], error: str) -> None:
    (logs / "my vm.log").write_text("\n".join(lines) + "\n")
    assert found("domain_log", logs) == (error or f"none in {logs}/my vm.log")


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("fs0", CONNECTED, ""),
        ("fs0", CONNECTED + TOO_MANY, TOO_MANY),
        ("ua-mine", CONNECTED + TOO_MANY, TOO_MANY),
        ("fs0", f"{TOO_MANY}\n{CONNECTED}", ""),
        ("fs0", f"{CONNECTED}[2026-11-26T04:01:26Z WARN  virtiofsd] Failed to do this, that is OK", ""),
        ("fs7", CONNECTED + TOO_MANY, ""),  # of a share that the domain no longer has
        ("fs0", "thread 'main' panicked at src/main.rs:1", "thread 'main' panicked at src/main.rs:1"),
    ],
)
def test_virtiofsd_log(logs: Path, name: str, text: str, error: str) -> None:
    for alias in ("fs0", "ua-mine"):
        (logs / f"my vm-{alias}-virtiofsd.log").write_text(CONNECTED)
    (logs / f"my vm-{name}-virtiofsd.log").write_text(text + "\n")
    assert found("virtiofsd_log", logs) == (error or "none in 2 logs")


def test_no_log(logs: Path) -> None:
    assert found("virtiofsd_log", logs).startswith("not applicable: ")
    assert found("domain_log", logs).startswith("not applicable: ")
