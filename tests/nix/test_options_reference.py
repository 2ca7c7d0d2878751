# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option is documented, and the reference is what the modules say."""

from __future__ import annotations

from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT, HERE, World, evaluate


def test_the_reference_is_fresh(world: World) -> None:
    reference = evaluate(f"import {HERE}/options-reference.nix {{ {world.arguments} }}")
    assert (CHECKOUT / "docs/nix-options.md").read_text() == reference, "run make generate"


def test_every_option_has_a_description_a_default_and_an_example(world: World) -> None:
    undocumented = """
      let
        inherit (builtins) attrNames concatMap filter;
        isDocumented = option:
          option ? description && option ? example && (option ? default || option ? defaultText);
        of = role: filter (name: !isDocumented role.virtiofs.${name}) (attrNames role.virtiofs);
      in
      options: concatMap of [ options.host options.guest ]
    """
    names = ("host-virtiofs", "guest-virtiofs")
    modules = f"[ {' '.join(f'{CHECKOUT}/nix/modules/{name}.nix' for name in names)} ]"
    options = f"(import {HERE}/nixos {{ {world.arguments} }} {modules}).options.keystone.virtualization"
    assert evaluate(f"({undocumented}) {options}") == []
