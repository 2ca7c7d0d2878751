# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded test guest mounts what the guest module evaluates to, as long as it has a copy of its own."""

from __future__ import annotations

from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT, World, fstab
from ansible_collections.keystone.virtiofs.tests.nix.test_stage1 import SCRIPTED

FILES = CHECKOUT / "roles/test_guest/files"
SERVICE = FILES / "rootfs/etc/systemd/system/rw-nix-store.service"

# It comes up without the share as well.
OF_THE_TEST_GUEST = {"nofail"}

Entry = tuple[str, str, set[str]]


def comparable(entries: dict[str, tuple[str, str, list[str]]]) -> dict[str, Entry]:
    """Without what only orders the mounts."""
    return {
        where: (device, type_, {option for option in options if not option.startswith("x-")} - OF_THE_TEST_GUEST)
        for where, (device, type_, options) in entries.items()
    }


def test_it_mounts_what_the_module_says(world: World) -> None:
    # A scripted stage 1 gets the paths as the running guest has them.
    module = comparable(fstab(world.guest("system.build.initrdFstab", "", SCRIPTED)))
    del module["/"]
    assert comparable(fstab((FILES / "fstab").read_text())) == module


def test_it_makes_the_directories_of_the_writable_layer(world: World) -> None:
    overlay = world.guest('fileSystems."/nix/store".overlay')
    assert SERVICE.read_text().endswith(f" {overlay['upperdir']} {overlay['workdir']}\n")
