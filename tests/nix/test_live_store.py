# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest whose Nix asks its host what is valid: what the module evaluates to. molecule/store runs it."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import World
from ansible_collections.keystone.virtiofs.tests.nix.test_guest import PERSISTENT, RW

LIVE = 'storeRegistration = "live";'
DIRECTORY = "/run/keystone-virtiofs/live"


def test_the_daemon_asks_the_relay(world: World) -> None:
    url = urlsplit(world.guest("systemd.services.nix-daemon.environment.NIX_REMOTE", LIVE))
    assert url.scheme == "local-overlay"
    assert parse_qs(url.query, strict_parsing=True) == {
        "lower-store": [f"unix://{DIRECTORY}/host.socket"],
        "upper-layer": [f"{RW}/upper"],
        "check-mount": ["false"],
        "remount-hook": ["/etc/keystone/remount-store"],
    }
    assert world.guest("nix.settings.experimental-features", LIVE) == ["local-overlay-store"]


def test_the_relay_listens_before_the_daemon_starts(world: World) -> None:
    relay = world.guest("systemd.services.keystone-store-relay", LIVE)
    assert relay["before"] == ["nix-daemon.service"]
    assert relay["serviceConfig"]["Type"] == "notify"
    arguments = relay["serviceConfig"]["ExecStart"].split()
    assert arguments[1:] == [
        "/etc/keystone/keystone-store-relay",
        f"{DIRECTORY}/host.socket",
        f"{DIRECTORY}/forwarded.socket",
    ]
    assert relay["serviceConfig"]["RuntimeDirectory"] == DIRECTORY.removeprefix("/run/")


def test_the_watch_follows_the_share(world: World) -> None:
    watch = world.guest("systemd.services.keystone-store-watch", LIVE + 'roStoreMount = "/a";')
    assert watch["serviceConfig"]["ExecStart"].split()[1:] == ["/etc/keystone/keystone-store-watch", "/a", "/nix/store"]


@pytest.mark.parametrize("attribute", ["systemd.globalEnvironment", "environment.sessionVariables"])
def test_everybody_else_goes_through_the_daemon(world: World, attribute: str) -> None:
    assert world.guest(f"{attribute}.NIX_REMOTE", LIVE) == "daemon"


def test_boot_needs_no_host(world: World) -> None:
    """The service before the daemon opens the guest's own database only."""
    environment = world.guest("systemd.services.keystone-store-verification.environment", LIVE)
    assert environment == {"NIX_REMOTE": "local"}
    assert not any("live" in mount for mount in world.guest("fileSystems", LIVE))


def test_the_host_can_forward_again_after_a_lost_connection(world: World) -> None:
    assert world.guest("services.openssh.settings.StreamLocalBindUnlink", LIVE) is True


def test_a_guest_may_collect_garbage(world: World) -> None:
    options, disk = PERSISTENT
    assert world.guest("system.build.toplevel", LIVE + options, f"{{ imports = [ {disk} ]; nix.gc.automatic = true; }}")


def test_other_registrations_have_none_of_it(world: World) -> None:
    services = world.guest("systemd.services", 'storeRegistration = "closure";')
    assert not {"keystone-store-relay", "keystone-store-watch", "nix-daemon"} & set(services)
