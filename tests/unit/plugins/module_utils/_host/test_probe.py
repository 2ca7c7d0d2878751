# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._features import Virtiofsd
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import probe

if TYPE_CHECKING:
    from pathlib import Path


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("virtiofsd 1.13.2\n", ((1, 13, 2), False)),
        ("virtiofsd 1.8.0", ((1, 8, 0), False)),
        ("virtiofsd version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003", ((7, 2, 22), True)),
        ("virtiofsd v1.10.1", ((1, 10, 1), False)),
        ("error: unexpected argument '--version'", (None, False)),
        ("", (None, False)),
    ],
)
def test_virtiofsd_version(text: str, expected: object) -> None:
    assert probe.parse_virtiofsd_version(text) == expected


class TestDescriptors:
    """The precedence of libvirt's qemuInteropFetchConfigs and qemuVhostUserFillDomainFS."""

    @pytest.fixture
    def dirs(self, tmp_path: Path) -> list[Path]:
        folders = [tmp_path / name for name in ("usr", "etc", "home")]
        for folder in folders:
            folder.mkdir()
        return folders

    @staticmethod
    def describe(folder: Path, name: str, binary: str, kind: str = "fs") -> None:
        (folder / name).write_text(json.dumps({"type": kind, "binary": binary}), encoding="utf-8")

    @staticmethod
    def found(dirs: list[Path]) -> str | None:
        daemon = probe.find_virtiofsd(dirs)
        return daemon.path if daemon else None

    def test_none_without_folders(self, tmp_path: Path) -> None:
        assert self.found([tmp_path / "absent"]) is None

    def test_file_name_decides_across_folders(self, dirs: list[Path]) -> None:
        self.describe(dirs[0], "10-first.json", "/usr/first")
        self.describe(dirs[1], "50-second.json", "/etc/second")
        assert self.found(dirs) == "/usr/first"

    def test_later_folder_wins_for_one_name(self, dirs: list[Path]) -> None:
        for folder, binary in zip(dirs, ("/usr/d", "/etc/d", "/home/d"), strict=True):
            self.describe(folder, "50-virtiofsd.json", binary)
        assert self.found(dirs) == "/home/d"
        assert self.found(dirs[:2]) == "/etc/d"

    def test_empty_file_masks(self, dirs: list[Path]) -> None:
        self.describe(dirs[0], "50-virtiofsd.json", "/usr/d")
        (dirs[1] / "50-virtiofsd.json").touch()
        assert self.found(dirs) is None
        assert probe.broken_descriptors(dirs) == []

    def test_other_types_and_hidden_files_do_not_count(self, dirs: list[Path]) -> None:
        self.describe(dirs[0], "10-gpu.json", "/usr/gpu", kind="gpu")
        self.describe(dirs[0], ".20-backup.json", "/usr/hidden")
        self.describe(dirs[0], "50-virtiofsd.json", "/usr/d")
        assert self.found(dirs) == "/usr/d"

    def test_broken_file_is_named(self, dirs: list[Path]) -> None:
        (dirs[0] / "40-broken.json").write_text("{", encoding="utf-8")
        self.describe(dirs[0], "50-virtiofsd.json", "/usr/d")
        assert probe.broken_descriptors(dirs) == [dirs[0] / "40-broken.json"]
        assert self.found(dirs) == "/usr/d"

    def test_version_of_the_daemon_found(self, dirs: list[Path], tmp_path: Path) -> None:
        binary = script(tmp_path / "virtiofsd", "echo virtiofsd 1.13.2")
        self.describe(dirs[0], "50-virtiofsd.json", binary)
        assert probe.find_virtiofsd(dirs) == Virtiofsd(binary, (1, 13, 2))

    def test_the_daemon_tells_whether_it_has_the_policy_for_stores(self, dirs: list[Path], tmp_path: Path) -> None:
        asked = '"--cache=store --print-capabilities"'
        capabilities = """echo '{"type": "fs"}'"""
        code = f'case "$*" in --version) echo virtiofsd 1.13.2;; {asked}) {capabilities};; esac'
        binary = script(tmp_path / "virtiofsd", code)
        self.describe(dirs[0], "50-virtiofsd.json", binary)
        assert probe.find_virtiofsd(dirs) == Virtiofsd(binary, (1, 13, 2), caches_stores=True)

    @pytest.mark.parametrize(
        ("nixos", "session", "expected"),
        [
            (False, False, ["/usr/share/qemu/fw", "/etc/qemu/fw"]),
            (True, False, ["/usr/share/qemu/fw", "/var/lib/qemu/fw"]),
            (False, True, ["/usr/share/qemu/fw", "/etc/qemu/fw", "/xdg/qemu/fw"]),
        ],
    )
    def test_folders(self, monkeypatch: pytest.MonkeyPatch, nixos: bool, session: bool, expected: list[str]) -> None:
        monkeypatch.setattr(probe, "is_nixos", lambda: nixos)
        dirs = probe.descriptor_dirs("fw", session, {"XDG_CONFIG_HOME": "/xdg"})
        assert [str(folder) for folder in dirs] == expected


def test_firmware(tmp_path: Path) -> None:
    def descriptor(name: str, features: list[str], architecture: str = "x86_64") -> None:
        content = {
            "interface-types": ["uefi"],
            "features": features,
            "targets": [{"architecture": architecture, "machines": ["pc-q35-*"]}],
        }
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")

    descriptor("40-enrolled.json", ["secure-boot", "enrolled-keys"])
    descriptor("50-secure.json", ["secure-boot"])
    descriptor("60-plain.json", [])
    descriptor("60-arm.json", [], architecture="aarch64")

    found = probe.find_firmware([tmp_path], "x86_64")
    assert [(f.secure_boot, f.enrolled_keys, f.setup_mode) for f in found] == [
        (True, True, False),
        (True, False, True),
        (False, False, False),
    ]


@pytest.mark.parametrize(
    ("content", "enough"),
    [
        ("alice:100000:65536\n", True),
        ("alice:100000:32768\nalice:200000:32768\n", True),
        ("alice:100000:1000\n", False),
        ("bob:100000:65536\n", False),
        ("", False),
    ],
)
def test_subordinate_ids(tmp_path: Path, content: str, enough: bool) -> None:
    (tmp_path / "subuid").write_text(content, encoding="utf-8")
    assert probe.has_subordinate_ids("alice", [tmp_path / "subuid"]) is enough
    assert not probe.has_subordinate_ids("alice", [tmp_path / "subuid", tmp_path / "absent"])


@pytest.mark.parametrize(
    ("profiles", "confined"),
    [
        ("libvirtd (enforce)\nman_filter (enforce)\n", True),
        ("/usr/sbin/libvirtd (enforce)\n", True),
        ("virtqemud (enforce)\n", True),
        ("libvirtd (complain)\n", False),
        ("libvirtd//qemu_bridge_helper (enforce)\n", False),
        ("", False),
    ],
)
def test_apparmor(tmp_path: Path, profiles: str, confined: bool) -> None:
    (tmp_path / "profiles").write_text(profiles, encoding="utf-8")
    assert probe.apparmor_confines_libvirt(tmp_path / "profiles") is confined


def test_os_release(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text('ID=ubuntu\nVERSION_ID="24.04"\nID_LIKE=debian\n', encoding="utf-8")
    assert probe.os_release(tmp_path / "os-release") == {
        "ID": "ubuntu",
        "VERSION_ID": "24.04",
        "ID_LIKE": "debian",
    }
    assert probe.os_release(tmp_path / "absent") == {}


def test_tools_that_cannot_run_tell_nothing(tmp_path: Path) -> None:
    assert probe.identify_virtiofsd(str(tmp_path / "absent")).version is None
    assert probe.qemu_version(str(tmp_path / "absent")) is None
    assert probe.qemu_version(script(tmp_path / "qemu", "echo QEMU emulator version 10.0.13")) == (10, 0, 13)
