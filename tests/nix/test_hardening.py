# SPDX-License-Identifier: GPL-3.0-or-later
"""How exposed the services are that the collection installs, as systemd rates them: 0 is best, 10 is worst."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT, World

LIMIT = 5.0
OF_ROLE = sorted((CHECKOUT / "roles/host/files").glob("*.service"))
ON_HOST = "exportDatabase = true; hostBuilds = true; liveStore = true; shareClosureOnly = true;"
OF_HOST = [
    *("keystone-firewall", "keystone-mounts", "keystone-network", "keystone-nix-database"),
    *("keystone-store-builder", "keystone-store-forward@", "keystone-store-live", "keystone-store-proxy@"),
    *("keystone-store-views", "keystone-store-vsock"),
]
OF_GUEST = {f"keystone-store-{work}": "closure" for work in ("recovery", "registration", "verification")}
OF_LIVE_GUEST = {f"keystone-store-{work}": "live" for work in ("relay", "watch")}


def exposure(unit: Path) -> float:
    """The figure, which is printed as well (pytest -rP)."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", found.stdout)
    assert match, found.stderr
    print(f"{unit.name}: {match[1]}")
    return float(match[1])


def written(directory: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """The service as NixOS writes it, as far as the rating depends on it."""
    lines = ["[Service]", "ExecStart=/bin/true"]
    for setting, value in settings.items():
        for one in value if isinstance(value, list) else [value]:
            lines.append(f"{setting}={str(one).lower() if isinstance(one, bool) else one}")
    unit = directory / f"{name}.service"
    unit.write_text("\n".join(line for line in lines if "nix/store" not in line) + "\n")
    return unit


def test_every_service_of_the_nix_modules_is_rated(world: World) -> None:
    assert sorted(world.host("systemd.services", ON_HOST)) == OF_HOST
    assert sorted(world.guest("systemd.services", 'storeRegistration = "closure";')) == sorted(OF_GUEST)
    live = set(world.guest("systemd.services", 'storeRegistration = "live";'))
    assert live - set(OF_GUEST) - {"nix-daemon"} == set(OF_LIVE_GUEST)


@pytest.mark.parametrize("unit", OF_ROLE, ids=lambda unit: unit.name)
def test_a_service_of_the_role_is_hardened(unit: Path) -> None:
    assert exposure(unit) < LIMIT


@pytest.mark.parametrize("name", OF_HOST)
def test_a_service_of_the_host_module_is_hardened(world: World, name: str, tmp_path: Path) -> None:
    services = world.host("systemd.services", ON_HOST)
    assert exposure(written(tmp_path, name, services[name]["serviceConfig"])) < LIMIT


@pytest.mark.parametrize(("name", "registration"), (OF_GUEST | OF_LIVE_GUEST).items())
def test_a_service_of_the_guest_module_is_hardened(world: World, name: str, registration: str, tmp_path: Path) -> None:
    service = world.guest(f"systemd.services.{name}", f'storeRegistration = "{registration}";')
    assert exposure(written(tmp_path, name, service["serviceConfig"])) < LIMIT
