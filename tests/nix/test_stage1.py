# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's stage 1 mounts: the evaluated file systems through systemd's own fstab generator."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host.store import image
from ansible_collections.keystone.virtiofs.tests.nix.stage1 import Stage1
from ansible_collections.keystone.virtiofs.tests.nix.support import STAND_IN, World, fstab
from ansible_collections.keystone.virtiofs.tests.nix.test_guest import PERSISTENT, RO, RW

SCRIPTED = "{ boot.initrd.systemd.enable = false; }"


def stage1(folder: Path, world: World, options: str = "", *modules: str) -> Stage1:
    fstab = world.guest("system.build.initrdFstab", options, *modules)
    return Stage1(folder, fstab, world.guest("boot.initrd.systemd.services", options, *modules))


def test_the_defaults_mount_what_the_running_guest_is_to_have(world: World, tmp_path: Path) -> None:
    units = stage1(tmp_path, world)
    assert units.problems() == []
    assert {where: mount["unit"] for where, mount in units.mounts.items()} == {
        "/sysroot": "sysroot.mount",
        "/sysroot/nix/store": "sysroot-nix-store.mount",
        f"/sysroot{RO}": r"sysroot-sysroot-nix-.ro\x2dstore.mount",
        f"/sysroot{RW}": r"sysroot-sysroot-nix-.rw\x2dstore.mount",
    }
    share = units.mounts[f"/sysroot{RO}"]
    assert (share["What"], share["Type"]) == ("nix-store-share", "virtiofs")
    assert "ro" in units.options(share["Where"])
    assert units.mounts[f"/sysroot{RW}"]["Type"] == "tmpfs"
    store = units.options("/sysroot/nix/store")
    assert store["lowerdir"] == f"/sysroot/nix/store:/sysroot{RO}"
    assert (store["upperdir"], store["workdir"]) == (f"/sysroot{RW}/upper", f"/sysroot{RW}/work")


def test_other_mount_points(world: World, tmp_path: Path) -> None:
    options = (
        'shareName = "store"; roStoreMount = "/nix/.ro-store"; rwStoreMount = "/var/overlay"; mountPoint = "/mnt";'
    )
    units = stage1(tmp_path, world, options)
    assert units.problems("/sysroot/mnt") == []
    assert units.mounts.keys() == {"/sysroot", "/sysroot/mnt", "/sysroot/nix/.ro-store", "/sysroot/var/overlay"}
    assert units.mounts["/sysroot/nix/.ro-store"]["What"] == "store"
    assert units.options("/sysroot/mnt")["lowerdir"] == "/sysroot/nix/store:/sysroot/nix/.ro-store"
    assert units.options("/sysroot/mnt")["upperdir"] == "/sysroot/var/overlay/upper"


def test_a_persistent_layer(world: World, tmp_path: Path) -> None:
    units = stage1(tmp_path, world, *PERSISTENT)
    assert units.problems() == []
    layer = units.mounts[f"/sysroot{RW}"]
    assert (layer["What"], layer["Type"]) == ("/dev/vdb", "ext4")


def test_a_store_image_lies_between_the_own_store_and_the_share(world: World, tmp_path: Path) -> None:
    units = stage1(tmp_path, world, "storeImage = true;")
    assert units.problems() == []
    images = "/sysroot/sysroot/nix/.store-image"
    for place, uuid in ((images, image.UUID), (f"{images}-update", image.UPDATE_UUID)):
        mount = units.mounts[place]
        assert (mount["What"], mount["Type"]) == (f"/dev/disk/by-uuid/{uuid}", "erofs")
        assert {"ro", "dax"} <= set(units.options(mount["Where"]))
    assert "swiotlb=2048" in world.guest("boot.kernelParams", "storeImage = true;")
    layers = f"/sysroot/nix/store:{images}-update:{images}:/sysroot{RO}"
    assert units.options("/sysroot/nix/store")["lowerdir"] == layers


def test_scripted_stage_1_adds_the_prefix_by_itself(world: World) -> None:
    entries = fstab(world.guest("system.build.initrdFstab", "", SCRIPTED))
    assert entries[RO][:2] == ("nix-store-share", "virtiofs")
    assert {
        f"lowerdir=/nix/store:{RO}",
        f"upperdir={RW}/upper",
        f"workdir={RW}/work",
    } <= set(entries["/nix/store"][2])


def raw_store(*options: str) -> str:
    """A module that mounts the store without NixOS's own support for overlays."""
    listed = " ".join(f'"{option}"' for option in options)
    entry = f'{{ device = "overlay"; fsType = "overlay"; neededForBoot = true; options = [ {listed} ]; }}'
    return f'{{ lib, ... }}: {{ fileSystems."/nix/store" = lib.mkForce {entry}; }}'


def forced(option: str, value: str) -> str:
    """A module that sets one option against the guest module."""
    return f"{{ lib, ... }}: {{ {option} = lib.mkForce {value}; }}"


LOWER = 'fileSystems."/nix/store".overlay.lowerdir'

# What the first implementation had, and what else could go wrong. Were a check blind, one of these would pass.
BROKEN = {
    "layers as raw options": (
        raw_store(f"lowerdir={RO}", f"upperdir={RW}/upper", f"workdir={RW}/work"),
        f"the guest's own store is not the first layer, {RO} is",
    ),
    "raw options with both stores": (
        raw_store(f"lowerdir=/sysroot/nix/store:{RO}", f"upperdir=/sysroot{RW}/upper", f"workdir=/sysroot{RW}/work"),
        f"nothing is mounted on the layer {RO}",
    ),
    "nobody creates upper and work": (
        forced("boot.initrd.systemd.services", "{ }"),
        f"nothing creates upperdir /sysroot{RW}/upper",
    ),
    "the tag is checked as if it were a device": (
        forced(f'fileSystems."{RO}".noCheck', "false"),
        'Checking was requested for "nix-store-share", but it is not a device.',
    ),
    "stage 1's prefix twice": (
        forced(LOWER, f'[ "/nix/store" "/sysroot{RO}" ]'),
        f"nothing is mounted on the layer /sysroot/sysroot{RO}",
    ),
    "the host's store first": (
        forced(LOWER, f'[ "{RO}" "/nix/store" ]'),
        f"the guest's own store is not the first layer, /sysroot{RO} is",
    ),
    "the host's store is missing": (
        forced(LOWER, '[ "/nix/store" ]'),
        "the host's store is not a layer",
    ),
    "the share is mounted after stage 1": (
        forced(f'fileSystems."{RO}".neededForBoot', "false"),
        f"nothing is mounted on the layer /sysroot{RO}",
    ),
    "the writable layer is mounted after stage 1": (
        forced(f'fileSystems."{RW}".neededForBoot', "false"),
        f"upperdir /sysroot{RW}/upper is on no layer of its own",
    ),
    "the writable layer lies in the store": (
        forced("keystone.virtualization.guest.virtiofs.rwStoreMount", '"/nix/store/.rw"'),
        "Found ordering cycle",
    ),
}


@pytest.mark.parametrize(("module", "problem"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_module_is_noticed(tmp_path: Path, module: str, problem: str) -> None:
    problems = stage1(tmp_path, STAND_IN, "", module).problems()
    assert any(problem in found for found in problems), problems
