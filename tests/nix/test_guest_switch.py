# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest module does before a running guest is switched: its checks, run by bash as NixOS runs them."""

from __future__ import annotations

import re
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
    run = run_check(script, folder / "new", action)
    return run.returncode, run.stderr


def run_check(script: str, new: Path, action: str) -> subprocess.CompletedProcess[str]:
    """As nixpkgs/nixos/modules/system/activation/pre-switch-check.nix does."""
    command = ["bash", "-euo", "pipefail", "-c", f"({script}) >&2", "check", new, action]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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


@pytest.mark.parametrize(
    ("action", "is_own", "state", "expected"),
    [
        ("switch", True, "ext2/ext3", 1),
        ("boot", True, "ext2/ext3", 1),
        ("test", True, "ext2/ext3", 0),
        ("dry-activate", True, "ext2/ext3", 0),
        ("switch", False, "ext2/ext3", 0),
        # Booted directly: the boot default is lost together with the system.
        ("switch", True, "tmpfs", 0),
    ],
)
def test_a_system_that_a_restart_removes_is_not_the_boot_default(
    world: World, tmp_path: Path, action: str, is_own: bool, state: str, expected: int
) -> None:
    if is_own:
        (tmp_path / "upper/new").mkdir(parents=True)
    script = world.guest('system.preSwitchChecks."keystone-lasting-store"', f'rwStoreMount = "{tmp_path}";')
    script = re.sub(r"[^\s(]*/bin/stat [^)]*", f"echo {state}", script)
    script = re.sub(r"/nix/store/[a-z0-9]{32}-[^/ ]*", "/usr", script)
    assert f"echo {state}" in script
    run = run_check(script, Path("/nix/store/new"), action)
    assert (run.returncode, "Use 'nixos-rebuild test'" in run.stderr) == (expected, expected == 1)


def test_a_layer_on_a_disk_keeps_the_system(world: World) -> None:
    assert list(world.guest("system.preSwitchChecks", *PERSISTENT)) == ["keystone-store-mounts"]
