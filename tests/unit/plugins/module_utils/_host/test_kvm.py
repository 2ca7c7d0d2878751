# SPDX-License-Identifier: GPL-3.0-or-later
"""How QEMU's behaviour is read; that the firmware does what it says, a real QEMU shows in the scenario lifecycle."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import kvm
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.kvm import KvmProbe

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_SMM = 'case "$*" in *smm=on*) echo "no SMM" >&2; exit 1 ;; esac'


@pytest.fixture
def device(tmp_path: Path) -> Path:
    (tmp_path / "kvm").touch()
    return tmp_path / "kvm"


def qemu(folder: Path, body: str) -> str:
    script = folder / "qemu"
    script.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    script.chmod(0o755)
    return str(script)


def test_a_guest_that_gets_to_its_end_is_the_proof(tmp_path: Path, device: Path) -> None:
    assert kvm.probe_kvm(qemu(tmp_path, "exit 43"), device=device) == KvmProbe(True, smm=True)


def test_system_management_mode_is_told_apart(tmp_path: Path, device: Path) -> None:
    assert kvm.probe_kvm(qemu(tmp_path, f"{WITHOUT_SMM}; exit 43"), device=device) == KvmProbe(True, smm=False)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param('echo "failed to set MSR" >&2; kill -ABRT $$', "status -6: failed to set MSR", id="abort"),
        pytest.param("exit 0", "status 0: no message", id="ends-without-proof"),
        pytest.param(f"{WITHOUT_SMM}; echo stuck; exec sleep 60", "did not end within 0.2 s", id="hang"),
    ],
)
def test_anything_else_is_not(tmp_path: Path, device: Path, body: str, reason: str) -> None:
    started = time.monotonic()
    result = kvm.probe_kvm(qemu(tmp_path, body), timeout=0.2 if "sleep" in body else 5, device=device)
    assert not result.usable
    assert reason in result.reason
    assert time.monotonic() - started < 5


def test_elsewhere_than_on_x86_the_device_has_to_do(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm.platform, "machine", lambda: "aarch64")
    assert kvm.probe_kvm("/bin/false", device=device).usable


def test_no_device(tmp_path: Path) -> None:
    assert "there is no" in kvm.probe_kvm("/bin/false", device=tmp_path / "kvm").reason


def test_no_permission_names_the_group(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm.os, "access", lambda path, mode: False)
    monkeypatch.setattr(kvm, "_group_of", lambda path: "kvm")
    assert "belongs to group kvm" in kvm.probe_kvm("/bin/false", device=device).reason


def test_no_emulator(tmp_path: Path, device: Path) -> None:
    assert kvm.probe_kvm(None, device=device).reason == "QEMU is not installed"
    assert "is not installed" in kvm.probe_kvm(str(tmp_path / "absent"), device=device).reason


@pytest.mark.parametrize(
    ("mode", "group", "shut"),
    [(0o660, "kvm", False), (0o666, "root", False), (0o660, "993", True), (0o600, "kvm", True)],
)
def test_open_to_libvirt(device: Path, monkeypatch: pytest.MonkeyPatch, mode: int, group: str, shut: bool) -> None:
    device.chmod(mode)
    monkeypatch.setattr(kvm, "_group_of", lambda path: group)
    assert kvm.is_inaccessible_to_libvirt(device) is shut
