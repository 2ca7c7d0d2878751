# SPDX-License-Identifier: GPL-3.0-or-later
"""The host module: what it evaluates to, and what it refuses."""

from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import HOST_MODULE, EvaluationError, World

PYTHON = "python3-with-python3-libvirt-python3-lxml/bin/python3"


def test_nothing_happens_unless_enabled(world: World) -> None:
    assert world.config("virtualisation.libvirtd.enable", HOST_MODULE) is False


def test_libvirt_finds_virtiofsd_and_swtpm(world: World) -> None:
    libvirtd = world.host("virtualisation.libvirtd")
    assert libvirtd["enable"] is True
    assert [package.endswith("-virtiofsd") for package in libvirtd["qemu"]["vhostUserPackages"]] == [True]
    assert libvirtd["qemu"]["swtpm"]["enable"] is True


def test_virtiofsd_is_on_the_path(world: World) -> None:
    assert any("virtiofsd" in package for package in world.host("environment.systemPackages"))


def test_what_the_user_sets_wins(world: World) -> None:
    own = "{ virtualisation.libvirtd.qemu.swtpm.enable = false; }"
    assert world.host("virtualisation.libvirtd.qemu.swtpm.enable", "", own) is False


def test_what_the_user_adds_is_kept(world: World) -> None:
    own = "({ pkgs, ... }: { virtualisation.libvirtd = { enable = true; qemu.vhostUserPackages = [ pkgs.git ]; }; })"
    assert len(world.host("virtualisation.libvirtd.qemu.vhostUserPackages", "", own)) == 2


def test_users_manage_guests(world: World) -> None:
    assert world.host("users.groups.libvirtd.members", 'users = [ "alice" "bob" ];') == ["alice", "bob"]


def test_ansible_has_a_python_at_a_stable_path(world: World) -> None:
    assert world.host('environment.etc."keystone/python3".source').endswith(PYTHON)


def test_there_is_a_place_for_the_roots_of_guests(world: World) -> None:
    assert any("/nix/var/nix/gcroots/keystone-virtiofs " in rule for rule in world.host("systemd.tmpfiles.rules"))


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("enable", "1", "boolean"),
        ("package", '"virtiofsd"', "package"),
        ("python", "null", "package"),
        ("users", '"alice"', "list of string"),
        ("users", "[ 1 ]", "string"),
    ],
)
def test_a_value_of_another_type_is_refused(world: World, option: str, value: str, expected: str) -> None:
    name = f"keystone.virtualization.host.virtiofs.{option}"
    with pytest.raises(EvaluationError, match=rf"{name}.* is not of type `{expected}'"):
        world.config(name, HOST_MODULE, f"{{ {name} = {value}; }}")
