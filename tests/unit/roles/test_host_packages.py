# SPDX-License-Identifier: GPL-3.0-or-later
"""The package maps of roles/host, laid over each other as its tasks do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

VARS = Path(__file__).parents[3] / "roles" / "host" / "vars"
PLATFORMS = {
    "debian-12": ["Debian", "Debian-12"],
    "debian-13": ["Debian", "Debian-13"],
    "debian-sid": ["Debian", "Debian-none"],
    "ubuntu-22.04": ["Debian", "Ubuntu", "Ubuntu-22"],
    "ubuntu-24.04": ["Debian", "Ubuntu", "Ubuntu-24"],
    "fedora-43": ["RedHat", "Fedora", "Fedora-43"],
    "arch": ["Archlinux", "Archlinux-none"],
}
MAY_BE_EMPTY = {"_host_packages_virtiofsd", "_host_packages_without_systemd"}


def resolve(layers: list[str]) -> dict[str, Any]:
    resolved: dict[str, Any] = {}
    for path in (VARS / f"{layer}.yml" for layer in layers):
        if path.is_file():
            resolved.update(yaml.safe_load(path.read_text()))
    return resolved


@pytest.mark.parametrize("layers", PLATFORMS.values(), ids=PLATFORMS)
def test_platform_says_what_debian_says(layers: list[str]) -> None:
    assert set(resolve(layers)) == set(resolve(["Debian"]))


@pytest.mark.parametrize("layers", PLATFORMS.values(), ids=PLATFORMS)
def test_lists_hold_distinct_names(layers: list[str]) -> None:
    for key, names in resolve(layers).items():
        assert names or key in MAY_BE_EMPTY, key
        assert all(isinstance(name, str) and name for name in names), key
        assert len(set(names)) == len(names), key


@pytest.mark.parametrize("layers", PLATFORMS.values(), ids=PLATFORMS)
def test_no_package_is_in_two_lists(layers: list[str]) -> None:
    lists = [names for key, names in resolve(layers).items() if key.startswith("_host_packages_")]
    names = [name for group in lists for name in group]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("platform", ["debian-12", "ubuntu-22.04"])
def test_old_releases_have_virtiofsd_in_qemu(platform: str) -> None:
    assert resolve(PLATFORMS[platform])["_host_packages_virtiofsd"] == []


def test_every_map_belongs_to_a_platform() -> None:
    used = {layer for layers in PLATFORMS.values() for layer in layers}
    assert {path.stem for path in VARS.glob("*.yml")} - {"main"} <= used
