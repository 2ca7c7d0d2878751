# SPDX-License-Identifier: GPL-3.0-or-later
"""How a guest's Nix learns that the host's paths are valid: what the module evaluates to. molecule/store runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import World
from ansible_collections.keystone.virtiofs.tests.nix.test_guest import PERSISTENT, RO, RW

SERVICE = "systemd.services.keystone-store-registration"
OVERLAY = 'storeRegistration = "overlay-store";'
DATABASE = "/sysroot/nix/.ro-database"


def test_a_closure_is_registered_before_nix_is_used(world: World) -> None:
    service = world.guest(SERVICE)
    assert service["unitConfig"]["ConditionKernelCommandLine"] == "regInfo"
    assert service["before"] == ["nix-daemon.service"]
    assert service["wantedBy"] == ["multi-user.target"]
    assert [package.endswith("-nix") for package in service["path"]] == [True]


@pytest.mark.parametrize(
    ("parameters", "loaded"),
    [
        ("quiet regInfo={file} init=/init", "a path\n"),
        ("regInfo={file}", "a path\n"),
        ("quiet noregInfo={file}", None),
    ],
)
def test_the_kernel_parameter_names_the_registration(
    world: World, tmp_path: Path, parameters: str, loaded: str | None
) -> None:
    (tmp_path / "registration").write_text("a path\n")
    (tmp_path / "cmdline").write_text(parameters.format(file=tmp_path / "registration") + "\n")
    # Stands for nix-store, and keeps what it is to load.
    recorder = tmp_path / "nix-store"
    recorder.write_text(f'#!/bin/sh\n[ "$*" = --load-db ] && cat >{tmp_path}/loaded\n')
    recorder.chmod(0o755)
    script = world.guest(f"{SERVICE}.script").replace("/proc/cmdline", str(tmp_path / "cmdline"))
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["/bin/sh", "-euc", script], env={"PATH": path}, check=True)
    found = tmp_path / "loaded"
    assert (found.read_text() if found.exists() else None) == loaded


def test_by_default_nothing_is_asked_of_nix(world: World) -> None:
    assert "nix-daemon" not in world.guest("systemd.services")
    assert "experimental-features" not in world.guest("nix.settings")
    assert DATABASE not in world.guest("fileSystems")


def test_none_registers_nothing(world: World) -> None:
    services = world.guest("systemd.services", 'storeRegistration = "none";')
    assert list(services) == ["keystone-store-recovery", "keystone-store-verification"]
    assert world.guest("system.build.toplevel", 'storeRegistration = "none"; mountPoint = "/mnt";')


def overlay_store(world: World, options: str = "") -> tuple[str, dict[str, list[str]]]:
    """The scheme of the store that the daemon opens, and its settings."""
    environment = world.guest("systemd.services.nix-daemon.environment.NIX_REMOTE", OVERLAY + options)
    assert "%" not in environment.replace("%%", ""), "systemd would drop it: no specifier follows"
    url = urlsplit(environment.replace("%%", "%"))
    return url.scheme, parse_qs(url.query, strict_parsing=True)


def test_the_daemon_opens_an_overlay_store(world: World) -> None:
    scheme, settings = overlay_store(world)
    assert scheme == "local-overlay"
    assert settings == {
        "lower-store": [f"local?real={RO}&state={DATABASE}&read-only=true"],
        "upper-layer": [f"{RW}/upper"],
        "check-mount": ["false"],
        "remount-hook": ["/etc/keystone/remount-store"],
    }
    layers = world.guest('fileSystems."/nix/store".overlay', OVERLAY)
    assert settings["upper-layer"] == [layers["upperdir"]]
    assert world.guest("nix.settings.experimental-features", OVERLAY) == [
        "local-overlay-store",
        "read-only-local-store",
    ]


def test_the_overlay_store_follows_the_mount_points(world: World) -> None:
    _scheme, settings = overlay_store(world, 'roStoreMount = "/a"; rwStoreMount = "/b"; databaseMount = "/c";')
    assert settings["lower-store"] == ["local?real=/a&state=/c&read-only=true"]
    assert settings["upper-layer"] == ["/b/upper"]


@pytest.mark.parametrize("attribute", ["systemd.globalEnvironment", "environment.sessionVariables"])
def test_everybody_else_goes_through_the_daemon(world: World, attribute: str) -> None:
    assert world.guest(f"{attribute}.NIX_REMOTE", OVERLAY) == "daemon"


def test_the_database_is_a_share_of_its_own(world: World) -> None:
    share = world.guest(f'fileSystems."{DATABASE}"', OVERLAY)
    assert (share["device"], share["fsType"], share["noCheck"]) == ("nix-database-share", "virtiofs", True)
    assert set(share["options"]) >= {"ro", "nofail"}
    assert share["neededForBoot"] is False
    daemon = world.guest("systemd.services.nix-daemon", OVERLAY)
    assert daemon["unitConfig"]["RequiresMountsFor"] == [DATABASE]


def test_a_persistent_layer_goes_with_an_overlay_store(world: World) -> None:
    options, disk = PERSISTENT
    assert world.guest("system.build.toplevel", OVERLAY + options, disk)


def test_what_a_tmpfs_held_is_forgotten_at_boot(world: World) -> None:
    service = world.guest("systemd.services.keystone-store-verification")
    assert service["script"] == "nix-store --verify"
    assert service["before"] == ["keystone-store-registration.service", "nix-daemon.service"]
    assert "environment" not in service
    overlay = world.guest("systemd.services.keystone-store-verification", OVERLAY)
    assert overlay["environment"] == world.guest("systemd.services.nix-daemon.environment", OVERLAY)


def test_what_a_disk_holds_is_not(world: World) -> None:
    options, disk = PERSISTENT
    for mode in ("", OVERLAY):
        assert "keystone-store-verification" not in world.guest("systemd.services", mode + options, disk)
