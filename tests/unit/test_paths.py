# SPDX-License-Identifier: GPL-3.0-or-later
"""Every path that the collection uses on a host lies in one of a few trees, and in a known place of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.state_paths import STATE

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("inventory", "nix", "playbooks", "plugins", "roles")
# Each tree, and what may lie directly in it; None for anything.
TREES: dict[str, set[str] | None] = {
    STATE: {"benchmark", "database", "domains", "guests", "mounts"},
    "/var/cache/keystone-virtiofs": None,
    "/var/log/keystone-virtiofs": None,
    "/run/keystone-virtiofs": None,
    "/run/keystone-store": None,  # sockets of a user that may not enter the directory of root's locks
    "/etc/keystone-virtiofs": {"keystone-firewall.nft", "limits.json"},
    "/nix/var/nix/gcroots/keystone-virtiofs": {"domains", "seed"},
}
PLACE = re.compile(r"(?:/var/(?:lib|cache|log)|/run|/etc|/nix/var/nix/gcroots)/keystone[^\s\"'`<>(){},;:|*\[\]]*")
# Of NixOS's modules: configuration, which is not state.
CONFIGURATION = "/etc/keystone"


def files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *FOLDERS], cwd=CHECKOUT, capture_output=True, check=True)
    return sorted(name for name in listed.stdout.decode().split("\0") if name and (CHECKOUT / name).is_file())


def misplaced(text: str) -> list[str]:
    return [place for place in PLACE.findall(text) if not _is_known(place.rstrip("/."))]


def _is_known(place: str) -> bool:
    if place == CONFIGURATION or place.startswith(f"{CONFIGURATION}/"):
        return True
    for tree, members in TREES.items():
        if place == tree:
            return True
        if place.startswith(f"{tree}/"):
            return members is None or place[len(tree) + 1 :].split("/")[0] in members
    return False


@pytest.mark.parametrize("name", files())
def test_paths_of_the_host_are_in_their_tree(name: str) -> None:
    assert misplaced((CHECKOUT / name).read_text(errors="replace")) == []


def test_python_names_the_state_tree_once() -> None:
    """Documentation may quote it."""
    sources = (name for name in files() if name.startswith("plugins/module_utils/"))
    users = [name for name in sources if STATE in (CHECKOUT / name).read_text()]
    assert users == ["plugins/module_utils/_domain/state_paths.py"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"path: {STATE}/domains/vm/ro", []),
        (f"path: {STATE}.", []),
        (f"path: {STATE}/ssh/web", [f"{STATE}/ssh/web"]),
        (f"path: {STATE}-views/vm", [f"{STATE}-views/vm"]),
        ("/run/keystone-virtiofs/lock /run/keystone.lock", ["/run/keystone.lock"]),
        ("/nix/var/nix/gcroots/keystone-virtiofs/vm", ["/nix/var/nix/gcroots/keystone-virtiofs/vm"]),
    ],
)
def test_the_rule_can_fail(text: str, found: list[str]) -> None:
    assert misplaced(text) == found
