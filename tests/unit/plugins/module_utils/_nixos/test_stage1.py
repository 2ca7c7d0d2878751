# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes of an fstab need a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.stage1 import needs_other_mounts

GUEST = (Path(__file__).parents[5] / "roles/test_guest/files/evaluated/system/etc/fstab").read_text()
PLAIN = "# A comment\n/dev/vda / ext4 x-initrd.mount 0 1\n"
SRV = "/dev/vdb /srv ext4 defaults 0 2\n"


def changed(old: str, new: str) -> str:
    assert old in GUEST
    return GUEST.replace(old, new)


@pytest.mark.parametrize(
    "other",
    [
        PLAIN,
        changed("nix-store-share ", "other "),
        changed("/.ro-store ", "/.host-store "),
        changed("lowerdir=/sysroot/nix/store", "lowerdir=/sysroot/srv:/sysroot/nix/store"),
        changed("tmpfs /sysroot/nix/.rw-store tmpfs", "/dev/vdb /sysroot/nix/.rw-store ext4"),
    ],
    ids=["no share", "tag", "mount point", "layers", "type"],
)
def test_what_stage_1_mounts_changes_with_a_restart_only(other: str) -> None:
    assert needs_other_mounts(GUEST, other)
    assert needs_other_mounts(other, GUEST)


@pytest.mark.parametrize(
    "other",
    [
        GUEST,
        GUEST + SRV,
        changed("mode=0755", "mode=0755,size=2G"),
        changed("/dev/vda / ext4", "/dev/disk/by-label/root / btrfs"),
        # An older NixOS does not mark what stage 1 mounts.
        changed("x-initrd.mount,", "").replace(",x-initrd.mount", ""),
        GUEST + "garbage\n\n",
    ],
    ids=["same", "more", "size", "root", "no marks", "garbage"],
)
def test_everything_else_changes_with_a_switch(other: str) -> None:
    assert not needs_other_mounts(GUEST, other)
    assert not needs_other_mounts(other, GUEST)


def test_a_system_without_marks_gets_the_share_with_a_restart() -> None:
    assert needs_other_mounts(PLAIN.replace("x-initrd.mount", "defaults"), GUEST)
