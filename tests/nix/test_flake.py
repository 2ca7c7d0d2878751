# SPDX-License-Identifier: GPL-3.0-or-later
"""The flake wires what is in nix/, and its lock file fits it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import (
    CHECKOUT,
    HERE,
    World,
    evaluate,
    fstab,
    locked_nixpkgs,
)
from ansible_collections.keystone.virtiofs.tests.nix.test_guest import RO

SYSTEMS = {"x86_64-linux", "aarch64-linux"}


def output(world: World, text: str) -> Any:
    """The value of an expression over the flake's outputs, called flake."""
    return evaluate(f"""
      let
        world = {{ {world.arguments} }};
        lib = world.lib or (import {HERE}/lib);
        nixos = import {HERE}/nixos world;
        flake = import {HERE}/flake-outputs.nix {{ inherit lib nixos; }};
      in
      {text}
    """)


def test_the_modules_are_those_of_the_project(world: World) -> None:
    names = output(world, "builtins.attrNames flake.nixosModules")
    assert names == ["default", "virtiofs-guest", "virtiofs-host"]
    for role in ("guest", "host"):
        module = output(world, f"toString flake.nixosModules.virtiofs-{role}")
        assert module == str(CHECKOUT / f"nix/modules/{role}-virtiofs.nix")


def test_the_default_module_has_the_options_of_both(world: World) -> None:
    options = "builtins.attrNames (nixos [ flake.nixosModules.default ]).config.keystone.virtualization"
    assert output(world, options) == ["guest", "host"]


def test_a_module_may_be_imported_through_the_flake_and_by_path(world: World) -> None:
    twice = f"[ flake.nixosModules.default {CHECKOUT}/nix/modules/guest-virtiofs.nix ]"
    assert output(world, f"(nixos {twice}).config.keystone.virtualization.guest.virtiofs.enable") is False


def test_the_test_vm_is_a_whole_system(world: World) -> None:
    config = "flake.nixosConfigurations.test-virtiofs.config"
    assert output(world, f"{config}.system.build.toplevel")
    assert output(world, f"{config}.nixpkgs.hostPlatform") == "x86_64-linux"
    assert fstab(output(world, f"{config}.system.build.initrdFstab")).keys() >= {"/", RO, "/nix/store"}


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        ("packages", ["default", "installer-iso"]),
        ("checks", ["example-guest", "example-host", "formatting", "virtiofs"]),
        ("devShells", ["default"]),
    ],
)
def test_every_system_has_them(world: World, outputs: str, names: list[str]) -> None:
    assert set(output(world, f"builtins.attrNames flake.{outputs}")) == SYSTEMS
    for system in SYSTEMS:
        values = output(world, f"builtins.mapAttrs (_: toString) flake.{outputs}.{system}")
        assert sorted(values) == names
        assert all(values.values())


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_apps_run_playbooks_of_the_collection(world: World, system: str) -> None:
    apps = output(world, f"flake.apps.{system}")
    assert apps.keys() == {"default", "vm", "verify", "destroy"}
    assert apps["default"] == apps["vm"]
    for app in apps.values():
        assert app["type"] == "app"
        assert app["meta"]["description"]
        collections = re.findall(r"^export ANSIBLE_COLLECTIONS_PATH=(.*)$", app["program"], re.MULTILINE)[0]
        program, playbook, arguments = re.findall(r"^exec (\S+) (\S+) (\S+)$", app["program"], re.MULTILINE)[0]
        assert program.endswith("-ansible-core-python3-libvirt-python3-lxml/bin/ansible-playbook")
        assert arguments == '"$@"'
        assert collections.endswith("-keystone-virtiofs")
        assert (CHECKOUT / "playbooks" / f"{playbook.removeprefix('keystone.virtiofs.')}.yml").is_file()


def test_the_development_shell_has_what_the_tests_need(world: World) -> None:
    packages = "map (package: package.name) flake.devShells.x86_64-linux.default.packages"
    needed = {"ansible", "molecule", "nixos-anywhere", "python3-libvirt", "python3-lxml"}
    assert needed <= set(output(world, packages))


def test_the_template_is_a_host_with_its_guest(world: World) -> None:
    assert output(world, "toString flake.templates.default.path") == str(CHECKOUT / "nix/template")
    for system in ("hypervisor", "web"):
        assert output(world, f"flake.template.nixosConfigurations.{system}.config.system.build.toplevel")
    services = "builtins.attrNames flake.template.nixosConfigurations.hypervisor.config.systemd.services"
    assert "keystone-guest-web" in output(world, services)


def test_the_library_is_that_of_the_project(world: World) -> None:
    assert output(world, "flake.lib ? directBoot && flake.lib ? directBootDomain") is True


def test_every_system_has_a_formatter(world: World) -> None:
    assert set(output(world, "builtins.attrNames flake.formatter")) == SYSTEMS


def metadata(folder: Path) -> subprocess.CompletedProcess[str]:
    """What Nix says of a copy of the flake, offline and with a store of its own."""
    flake = folder / "flake"
    nix = ["nix", "--extra-experimental-features", "nix-command flakes", "--store", folder / "store"]
    return subprocess.run(
        [*nix, "flake", "metadata", "--offline", "--no-update-lock-file", f"path:{flake}"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "flake").mkdir()
    for name in ("flake.nix", "flake.lock"):
        shutil.copy(CHECKOUT / name, tmp_path / "flake")
    return tmp_path


def test_the_lock_file_fits_the_inputs(copy: Path) -> None:
    result = metadata(copy)
    assert result.returncode == 0, result.stderr
    assert "follows input 'nixpkgs'" in result.stdout


def test_a_lock_file_that_does_not_fit_is_noticed(copy: Path) -> None:
    # Without disko; a changed address would be looked up on the network.
    inputs = '{ nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05"; }'
    (copy / "flake/flake.nix").write_text(f"{{ inputs = {inputs}; outputs = _: {{ }}; }}")
    assert "requires lock file changes" in metadata(copy).stderr


def test_the_tests_find_the_nixpkgs_of_a_lock_file(tmp_path: Path) -> None:
    (tmp_path / "nixpkgs").mkdir()
    lock = tmp_path / "flake.lock"

    def found_for(**locked: str) -> Path | None:
        lock.write_text(json.dumps({"nodes": {"nixpkgs": {"locked": locked}}}))
        return locked_nixpkgs(lock, str(tmp_path / "store"))

    there = found_for(type="path", path=str(tmp_path / "nixpkgs"))
    assert there is not None
    assert (tmp_path / f"store{there}").is_dir()
    assert found_for(type="path", path=str(tmp_path / "gone")) is None
