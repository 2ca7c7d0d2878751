# SPDX-License-Identifier: GPL-3.0-or-later
"""What people copy or install works: the examples, the test VM, the installer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.stage1 import Stage1
from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT, ROOT, EvaluationError, World
from ansible_collections.keystone.virtiofs.tests.nix.test_guest import RO, RW

EXAMPLES = CHECKOUT / "nix/examples"
TEST_VM = CHECKOUT / "nix/vms/test-virtiofs/configuration.nix"
INSTALLER = CHECKOUT / "nix/installer/iso.nix"

KEYS = "users.users.root.openssh.authorizedKeys.keys"
TOPLEVEL = "system.build.toplevel"
MADE = [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")]
# Keys of security keys cannot be made without such a device.
OF_SECURITY_KEYS = [
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIFrobnXTXF+nCo3bNLwLQRUTyHc= me@host",
    "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHA= me@host",
]


def test_the_host_example_is_a_host(world: World) -> None:
    example = EXAMPLES / "host.nix"
    assert world.config(TOPLEVEL, example)
    assert world.config("users.groups.libvirtd.members", example) == ["alice"]


def test_the_guest_example_keeps_what_it_builds(world: World, tmp_path: Path) -> None:
    example = EXAMPLES / "guest.nix"
    assert world.config(TOPLEVEL, example, ROOT)
    fstab = world.config("system.build.initrdFstab", example, ROOT)
    units = Stage1(tmp_path, fstab, world.config("boot.initrd.systemd.services", example, ROOT))
    assert units.problems() == []
    assert units.mounts[f"/sysroot{RW}"]["Type"] == "ext4"


def test_the_test_vm_mounts_the_share(world: World, tmp_path: Path) -> None:
    assert world.config(TOPLEVEL, TEST_VM, ROOT)
    fstab = world.config("system.build.initrdFstab", TEST_VM, ROOT)
    units = Stage1(tmp_path, fstab, world.config("boot.initrd.systemd.services", TEST_VM, ROOT))
    assert units.problems() == []
    assert units.mounts[f"/sysroot{RO}"]["Type"] == "virtiofs"


def test_the_disk_of_the_test_vm_can_boot(world: World) -> None:
    partitions = world.config("disko.devices.disk.main.content.partitions", TEST_VM, ROOT)
    assert {one["content"]["mountpoint"] for one in partitions.values()} == {"/", "/boot"}
    assert partitions["ESP"]["type"] == "EF00"
    assert partitions["ESP"]["content"]["format"] == "vfat"


@pytest.fixture(scope="session")
def public_keys(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A key of every type that OpenSSH makes."""
    folder = tmp_path_factory.mktemp("keys")
    for type_, bits in MADE:
        file = folder / f"{type_}-{bits}"
        subprocess.run(["ssh-keygen", "-q", "-t", type_, "-b", bits, "-N", "", "-C", "me@host", "-f", file], check=True)
    return [file.read_text().strip() for file in sorted(folder.glob("*.pub"))] + OF_SECURITY_KEYS


@pytest.mark.parametrize("system", [INSTALLER, TEST_VM], ids=["installer", "test VM"])
def test_root_logs_in_with_a_key_of_any_type(world: World, system: Path, public_keys: list[str]) -> None:
    given = {"KEYSTONE_SSH_KEYS": "\n".join(public_keys) + "\n"}
    assert world.config(KEYS, system, ROOT, environment=given) == public_keys
    assert world.config(TOPLEVEL, system, ROOT, environment=given)


def test_without_keys_there_is_an_iso_all_the_same(world: World) -> None:
    none = {"KEYSTONE_SSH_KEYS": ""}
    assert world.config(KEYS, INSTALLER, ROOT, environment=none) == []
    assert world.config("system.build.isoImage", INSTALLER, ROOT, environment=none)


@pytest.mark.parametrize(
    "wrong",
    [
        "/home/me/.ssh/id_ed25519.pub",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "ssh-ed25519",
        "ssh-dss AAAAB3NzaC1kc3MAAACBAP me@host",
        "# a comment",
    ],
)
def test_what_is_no_public_key_is_refused(world: World, wrong: str) -> None:
    with pytest.raises(EvaluationError, match=r"KEYSTONE_SSH_KEYS: .* is not a public key"):
        world.config(TOPLEVEL, INSTALLER, ROOT, environment={"KEYSTONE_SSH_KEYS": wrong})


def test_the_installer_tells_its_address_and_logs_to_the_serial_console(world: World) -> None:
    assert world.config("services.qemuGuest.enable", INSTALLER) is True
    assert "console=ttyS0" in world.config("boot.kernelParams", INSTALLER)
