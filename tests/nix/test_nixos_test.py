# SPDX-License-Identifier: GPL-3.0-or-later
"""nix/tests/virtiofs.nix evaluates, and its parts are what they should be. Not run: that needs nixpkgs."""

from __future__ import annotations

import ast
from typing import Any

from lxml import etree

from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT, HERE, World, evaluate


def nixos_test(world: World, attribute: str) -> Any:
    """An expression over the test, called test."""
    return evaluate(f"""
      let
        world = {{ {world.arguments} }};
        nixos = import {HERE}/nixos world;
        test = import {CHECKOUT}/nix/tests/virtiofs.nix {{
          pkgs = import {HERE}/nixos/packages.nix;
          nixosSystem = modules: nixos modules // {{ pkgs = import {HERE}/nixos/packages.nix; }};
        }};
        host = (nixos [ test.nodes.host ]).config;
      in
      {attribute}
    """)


def test_the_host_is_a_host(world: World) -> None:
    assert nixos_test(world, "host.system.build.toplevel")
    assert nixos_test(world, "host.virtualisation.libvirtd.enable") is True
    assert nixos_test(world, "host.keystone.virtualization.host.virtiofs.network") == "keystone-net"


def test_the_guest_boots_directly_from_the_share(world: World) -> None:
    text = nixos_test(world, 'host.environment.etc."guest.xml".text')
    domain = etree.fromstring(text)
    assert domain.find("memoryBacking/access").get("mode") == "shared"
    share = domain.find("devices/filesystem")
    assert share.find("source").get("dir") == "/nix/store"
    assert share.find("target").get("dir") == "nix-store-share"
    assert share.find("readonly") is not None
    parameters = dict(one.partition("=")[::2] for one in domain.findtext("os/cmdline").split())
    assert parameters["regInfo"].endswith("-closure-info/registration")
    assert parameters["init"].endswith("/init")


def test_its_script_is_python(world: World) -> None:
    script = nixos_test(world, "test.testScript")
    ast.parse(script)
    mentioned = ("/sysroot/nix/.ro-store", "/sysroot/nix/.rw-store/upper", "nix-store --check-validity")
    assert all(words in script for words in mentioned)
