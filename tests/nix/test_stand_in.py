# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-ins give what nixpkgs gives; skipped where there is none to compare with (NIXPKGS_LIB, <nixpkgs>)."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import (
    HERE,
    STAND_IN,
    WORLDS,
    EvaluationError,
    World,
    evaluate,
    fstab,
)
from ansible_collections.keystone.virtiofs.tests.nix.test_guest import PERSISTENT
from ansible_collections.keystone.virtiofs.tests.nix.test_stage1 import SCRIPTED

REAL = [world for world in WORLDS if world is not STAND_IN]
if not REAL:
    pytest.skip("no nixpkgs here: set NIXPKGS_LIB to the folder lib of one", allow_module_level=True)

GUESTS = {
    "defaults": ("",),
    "other paths": ('shareName = "s"; roStoreMount = "/a-b/c"; rwStoreMount = "/d+e"; mountPoint = "/m/n-o";',),
    "persistent": PERSISTENT,
    "scripted stage 1": ("", SCRIPTED),
}

# Options and their definitions; the value is compared.
MODULES = {
    "priorities": "{ options.a = o types.int 0; } { a = lib.mkDefault 1; } { a = 2; } { a = lib.mkForce 3; }",
    "default": "{ options.a = o types.str ''x''; }",
    "forced default": "{ options.a = o types.str ''x''; } { a = lib.mkDefault ''y''; }",
    "lists in order": "{ options.a = l; } { imports = [ { a = [ 1 ]; } { a = [ 2 ]; } ]; a = [ 3 ]; } { a = [ 4 ]; }",
    "conditions": "{ options.a = l; } { a = lib.mkIf false [ 1 ]; } { a = lib.mkIf true [ 2 ]; }",
    "condition on a set": "{ options.a = l; options.b = o types.bool true; }"
    " ({ config, ... }: { config = lib.mkIf config.b { a = [ 1 ]; }; })",
    "merged": "{ options.a = l; } { config = lib.mkMerge [ { a = [ 1 ]; } (lib.mkIf true { a = [ 2 ]; }) ]; }",
    "merged value": "{ options.a = l; } { a = lib.mkMerge [ [ 1 ] (lib.mkIf false [ 2 ]) [ 3 ] ]; }",
    "sets": "{ options.a = o (types.attrsOf types.int) { }; } { a.x = 1; } { a.y = lib.mkIf false 2; a.z = 3; }",
    "forced set": "{ options.a = o (types.attrsOf types.int) { }; } { a = lib.mkForce { x = 1; }; } { a.y = 2; }",
    "submodules": "{ options.a = o (types.attrsOf (types.submodule ({ name, config, ... }: {"
    " options.n = o types.str name; options.m = o (types.listOf types.str) [ ]; config.m = [ config.n ]; }))) { }; }"
    " { a.x.m = [ ''2'' ]; } { a.x.m = [ ''3'' ]; a.y.n = ''z''; }",
    "anything": "{ options.a = o types.anything { }; } { a.b.c = [ 1 ]; } { a.b.c = [ 2 ]; a.d = ''x''; }",
    "anything but lists": "{ options.a = o types.anything { }; } { a.b.c = ''x''; } { a.b.c = ''x''; a.d = 1; }",
    "lines": "{ options.a = o types.lines ''''; } { a = ''x''; } { a = ''y''; }",
    "null": "{ options.a = o (types.nullOr types.str) null; }",
    "nullOr": "{ options.a = o (types.nullOr types.str) null; } { a = ''x''; }",
    "apply": "{ options.a = lib.mkOption { type = types.int; default = 1; apply = n: n + 1; }; }",
    "equal": "{ options.a = o types.str ''''; } { a = ''x''; } { a = ''x''; }",
    "conflict": "{ options.a = o types.str ''''; } { a = ''x''; } { a = ''y''; }",
    "wrong type": "{ options.a = o types.str ''''; } { a = 1; }",
    "wrong element": "{ options.a = o (types.listOf types.int) [ ]; } { a = [ ''x'' ]; }",
    "wrong enum": "{ options.a = o (types.enum [ ''x'' ''y'' ]) ''x''; } { a = ''z''; }",
    "empty list": "{ options.a = o (types.nonEmptyListOf types.int) [ 1 ]; } { a = [ ]; }",
    "unknown": "{ options.a = o types.int 1; } { b = 1; }",
    "unknown in a submodule": "{ options.a = o (types.submodule { options.b = o types.int 1; }) { }; } { a.c = 1; }",
    "undefined": "{ options.a = lib.mkOption { type = types.int; }; }",
    "declared twice": "{ options.a = o types.int 1; } { options.a = o types.str ''''; }",
    "imported twice": f"{{ imports = [ {HERE}/modules/list.nix {HERE}/modules/list.nix ]; }}",
}


def result(world: World, modules: str) -> tuple[str, Any]:
    """The value of option a, or of which option there is none."""
    spaced = modules.replace("} {", "}\n{")
    expression = f"""
      let
        lib = (args: args.lib or (import {HERE}/lib)) {{ {world.arguments} }};
        inherit (lib) types;
        o = type: default: lib.mkOption {{ inherit type default; }};
        l = o (types.listOf types.int) [ ];
      in
      (lib.evalModules {{ modules = [ {spaced} ]; }}).config.a
    """
    try:
        return "value", evaluate(expression)
    except EvaluationError as error:
        message = str(error).rpartition("error:")[2]  # newer versions of Nix show the way there first
        option = message.partition("`")[2].partition("'")[0]
        return "error", option.partition('."[')[0]  # which element of a list it is, only nixpkgs says


@pytest.mark.parametrize("modules", MODULES.values(), ids=MODULES.keys())
def test_modules_merge_alike(modules: str) -> None:
    ours, theirs = result(STAND_IN, modules), result(REAL[0], modules)
    assert ours == theirs


@pytest.mark.parametrize("real", REAL, ids=lambda world: world.name)
@pytest.mark.parametrize("guest", GUESTS.values(), ids=GUESTS.keys())
def test_a_guest_is_the_same(real: World, guest: tuple[str, ...]) -> None:
    def seen(world: World) -> dict[str, Any]:
        services = world.guest("boot.initrd.systemd.services", *guest)
        return {
            "fstab": fstab(world.guest("system.build.initrdFstab", *guest)),
            "running system's fstab": fstab(world.guest("environment.etc.fstab.text", *guest)),
            "services": {name: service for name, service in services.items() if name.startswith("rw-")},
            "modules": sorted(set(world.guest("boot.initrd.availableKernelModules", *guest))),
            "mount options": world.guest("boot.nixStoreMountOpts", *guest),
        }

    assert seen(real) == seen(STAND_IN)


@pytest.mark.parametrize("real", REAL, ids=lambda world: world.name)
def test_a_host_is_the_same(real: World) -> None:
    for attribute in ("virtualisation.libvirtd", "users.groups", "environment.systemPackages"):
        theirs = real.host(attribute, 'users = [ "alice" ];')
        ours = STAND_IN.host(attribute, 'users = [ "alice" ];')
        if attribute == "environment.systemPackages":  # nixpkgs' file systems bring their tools along
            assert set(ours) <= set(theirs)
        else:
            assert ours == theirs
