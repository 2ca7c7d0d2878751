# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import logs


def test_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "libvirt/qemu/log"
    folder.mkdir(parents=True)
    for name in (
        "a[b]-ua-mine-virtiofsd.log",
        "a[b]-fs0-virtiofsd.log",
        "a[b]-fs10-virtiofsd.log",
        "ab-fs0-virtiofsd.log",
        "a[b].log",
    ):
        (folder / name).touch()
    expected = ["a[b]-fs0-virtiofsd.log", "a[b]-fs10-virtiofsd.log", "a[b]-ua-mine-virtiofsd.log"]
    assert logs.virtiofsd_logs("a[b]", session=True) == [str(folder / name) for name in expected]


RUST = "[2026-11-25T10:00:00Z ERROR virtiofsd] Error creating sandbox: PivotRoot(Os { code: 22 })\n"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", ""),
        ("[2026 INFO  virtiofsd] Waiting for vhost-user socket connection...\n", ""),
        (RUST, "Error creating sandbox: PivotRoot(Os { code: 22 })"),
        (RUST + "[2026 INFO  virtiofsd] Client disconnected\n", "Error creating sandbox: PivotRoot(Os { code: 22 })"),
        ("virtio_session_mount: Waiting\nfuse: failed to open: Too many open files\n", "Too many open files"),
        ("[2026-11-26T04:01:26Z WARN  virtiofsd] Failed to do this, that is OK\n", ""),
        ("x" * 10**6 + "\nerror: the end\n", "error: the end"),
        ("error: " + "y" * 10**4, "y" * 100),
    ],
)
def test_the_last_error_of_a_log(tmp_path: Path, content: str, found: str) -> None:
    log = tmp_path / "vm-fs0-virtiofsd.log"
    log.write_text(content)
    said = logs.last_error([str(tmp_path / "missing"), str(log)], since=0)
    assert (found in said) if found else said == ""
    assert len(said) < 500


def test_an_old_log_is_not_quoted(tmp_path: Path) -> None:
    log = tmp_path / "vm-fs0-virtiofsd.log"
    log.write_text(RUST)
    os.utime(log, (1000, 1000))
    assert logs.last_error([str(log)], since=1001) == ""
