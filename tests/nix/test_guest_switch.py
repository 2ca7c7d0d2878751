# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest module does before a running guest is switched: its checks, run by bash as NixOS runs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import ROOT, World
from ansible_collections.keystone.virtiofs.tests.nix.test_guest import DISK, PERSISTENT, RW

DEFAULTS = ("",)
CHECK = 'system.preSwitchChecks."keystone-store-mounts"'


def switch(world: World, folder: Path, booted: str, new: tuple[str, ...], action: str = "switch") -> tuple[int, str]:
    """Exit status and output of the check of a new system, in a guest whose booted system has this fstab."""
    for system, table in (("booted", booted), ("new", world.guest("environment.etc.fstab.text", *new))):
        (folder / system / "etc").mkdir(parents=True)
        (folder / system / "etc/fstab").write_text(table)
    script = world.guest(CHECK, *new).replace("/run/booted-system", str(folder / "booted"))
    # As nixpkgs/nixos/modules/system/activation/pre-switch-check.nix.
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"({script}) >&2", "check", folder / "new", action],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stderr


def fstab_of(world: World, *guest: str) -> str:
    table: str = world.guest("environment.etc.fstab.text", *guest)
    return table


def test_the_first_switch_to_the_module_is_refused(world: World, tmp_path: Path) -> None:
    without = world.config("environment.etc.fstab.text", ROOT)
    status, output = switch(world, tmp_path, without, DEFAULTS)
    assert status == 1
    assert "/nix/store" in output
    assert "Make this system the boot default with 'nixos-rebuild boot', and restart the machine." in output


@pytest.mark.parametrize("action", ["boot", "dry-activate"])
def test_the_module_may_come_with_a_restart(world: World, tmp_path: Path, action: str) -> None:
    without = world.config("environment.etc.fstab.text", ROOT)
    assert switch(world, tmp_path, without, DEFAULTS, action) == (0, "")


@pytest.mark.parametrize("action", ["switch", "test"])
@pytest.mark.parametrize(
    "guest",
    [DEFAULTS, PERSISTENT, ('storeRegistration = "overlay-store";',), ("storeImage = true;",)],
    ids=["defaults", "persistent", "overlay store", "store image"],
)
def test_a_switch_that_keeps_the_mounts_is_permitted(
    world: World, tmp_path: Path, guest: tuple[str, ...], action: str
) -> None:
    assert switch(world, tmp_path, fstab_of(world, *guest), guest, action) == (0, "")


def test_other_file_systems_and_options_may_change(world: World, tmp_path: Path) -> None:
    more = f'{{ fileSystems."{RW}".options = [ "size=2G" ]; fileSystems."/srv" = {DISK}; }}'
    assert switch(world, tmp_path, fstab_of(world), ("", more)) == (0, "")


def test_the_share_of_the_database_may_be_added(world: World, tmp_path: Path) -> None:
    assert switch(world, tmp_path, fstab_of(world), ('storeRegistration = "overlay-store";',)) == (0, "")


@pytest.mark.parametrize(
    "changed",
    [
        ('shareName = "other";',),
        ('roStoreMount = "/nix/.ro-store";',),
        ('rwStoreMount = "/nix/.rw-store";',),
        ("storeImage = true;",),
        PERSISTENT,
    ],
    ids=["tag", "share", "layer", "image", "persistent"],
)
def test_a_switch_that_changes_the_mounts_is_refused(world: World, tmp_path: Path, changed: tuple[str, ...]) -> None:
    for name, booted, new in (("there", DEFAULTS, changed), ("back", changed, DEFAULTS)):
        status, output = switch(world, tmp_path / name, fstab_of(world, *booted), new)
        assert (status, "restart the machine" in output) == (1, True)
