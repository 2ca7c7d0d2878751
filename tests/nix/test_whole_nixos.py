# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules in NixOS itself, whose options, packages and units are not stand-ins; skipped without NIXPKGS."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import (
    CHECKOUT,
    HERE,
    EvaluationError,
    evaluate,
    whole_nixos,
)
from ansible_collections.keystone.virtiofs.tests.nix.test_guest import PERSISTENT

NIXOS = whole_nixos()
if NIXOS is None:
    pytest.skip("no NixOS here: set NIXPKGS to the folder of a nixpkgs", allow_module_level=True)

GUEST = f"{CHECKOUT}/nix/modules/guest-virtiofs.nix {CHECKOUT}/nix/template/web.nix"
TOPLEVEL = "system.build.toplevel.outPath"
GUESTS = {
    "defaults": ("",),
    "persistent layer": PERSISTENT,
    "overlay store": ('storeRegistration = "overlay-store";',),
    "live store": ('storeRegistration = "live";',),
    "read-only store": ("readOnlyStore = true;",),
    "store image": ("storeImage = true;",),
    "scripted stage 1": ("", "{ boot.initrd.systemd.enable = false; }"),
    "without Nix": ("", "{ nix.enable = false; }"),
}
FIREWALLD = """{
  services.firewalld.enable = true;
  networking = { firewall.backend = "firewalld"; nftables.enable = true; };
}"""
HOSTS = {
    "defaults": ("",),
    "all options": ('exportDatabase = true; liveStore = true; shareClosureOnly = true; users = [ "alice" ];',),
    "nftables": ("", "{ networking.nftables.enable = true; networking.firewall.filterForward = true; }"),
    "firewalld": ("", FIREWALLD),
}


def test_a_guest_is_a_system(guest: tuple[str, ...]) -> None:
    assert NIXOS.guest(TOPLEVEL, *guest)
    assert not any("keystone" in warning for warning in NIXOS.guest("warnings", *guest))


@pytest.mark.parametrize("options", ["", 'storeRegistration = "overlay-store";'])
def test_a_guest_can_be_tried_with_build_vm(options: str) -> None:
    modules = "virtualisation.vmVariant.systemd.services.keystone-store-recovery.enable or false"
    assert NIXOS.guest("virtualisation.vmVariant.system.build.toplevel.outPath", options)
    assert NIXOS.guest(modules, options) is False


@pytest.mark.parametrize(
    ("options", "module", "message"),
    [
        ("persistentRwStore = true;", "{ }", "the writable layer has no device"),
        ("", "{ nix.settings.min-free = 1024; }", "nix.settings.min-free: with"),
        ('storeRegistration = "overlay-store";', "{ nix.enable = false; }", "needs Nix"),
        (
            'storeRegistration = "overlay-store";',
            '{ nix.daemonUser = "nix"; nix.daemonGroup = "nix"; }',
            "must run as root",
        ),
    ],
)
def test_the_assertion_comes_before_any_other_error(options: str, module: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        NIXOS.guest(TOPLEVEL, options, module)


def test_a_host_is_a_system(host: tuple[str, ...]) -> None:
    assert NIXOS.host(TOPLEVEL, *host)
    assert not any("keystone" in warning for warning in NIXOS.host("warnings", *host))


@pytest.fixture(params=GUESTS.values(), ids=GUESTS.keys())
def guest(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=HOSTS.values(), ids=HOSTS.keys())
def host(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_guest_without_a_flake() -> None:
    """As docs/without-ansible.md has it."""
    modules = f"{{ imports = [ {GUEST} ]; documentation.enable = false; }}"
    guest = f"import {NIXOS.nixpkgs}/nixos {{ configuration = {modules}; }}"
    options = f"guests.web = {{ nixos = {guest}; }};"
    assert "-web.xml" in NIXOS.host("systemd.services.keystone-guest-web.script", options)


def flake(output: str) -> Any:
    """An attribute of the flake's outputs; disko is a stand-in."""
    return evaluate(f"""
      let
        nixpkgs = {{
          outPath = {NIXOS.nixpkgs};
          lib = import {NIXOS.nixpkgs}/lib // {{
            nixosSystem = {{ modules }}: import {HERE}/nixos/whole.nix {NIXOS.nixpkgs} modules;
          }};
          legacyPackages = builtins.mapAttrs (system: _: import {NIXOS.nixpkgs} {{ inherit system; }}) {{
            x86_64-linux = null;
            aarch64-linux = null;
          }};
        }};
        template = (import {CHECKOUT}/nix/template/flake.nix).outputs {{
          inherit nixpkgs;
          keystone-virtiofs = self;
          self = template;
        }};
        self = (import {CHECKOUT}/flake.nix).outputs {{
          inherit nixpkgs self;
          disko.nixosModules.disko = {{ lib, ... }}: {{
            options.disko = lib.mkOption {{ type = lib.types.anything; }};
            config.fileSystems."/" = {{ device = "/dev/vda2"; fsType = "ext4"; }};
          }};
        }};
      in
      (self // {{ inherit template; }}).{output}
    """)


@pytest.mark.parametrize(
    "output",
    [
        "devShells.x86_64-linux.default.outPath",
        "devShells.aarch64-linux.default.outPath",
        "apps.x86_64-linux.vm.program",
        "packages.x86_64-linux.default.outPath",
        "formatter.x86_64-linux.outPath",
        "nixosConfigurations.test-virtiofs.config.system.build.toplevel.outPath",
        "checks.x86_64-linux.example-guest.outPath",
        "checks.x86_64-linux.example-host.outPath",
        "checks.x86_64-linux.formatting.outPath",
        "template.nixosConfigurations.hypervisor.config.system.build.toplevel.outPath",
        "template.nixosConfigurations.web.config.system.build.toplevel.outPath",
    ],
)
def test_an_output_of_the_flake_evaluates(output: str) -> None:
    assert flake(output)
