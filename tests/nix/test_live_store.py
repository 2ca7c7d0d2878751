# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest whose Nix asks its host what is valid: what the modules evaluate to. molecule/store runs it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT, EvaluationError, World
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
    assert relay["serviceConfig"]["RestrictAddressFamilies"] == "AF_UNIX AF_VSOCK"
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


SETTINGS = CHECKOUT / "nix/modules/keystone-store-builder.conf"
UNIT_NAMES = ("builder", "forward@", "live", "proxy@", "vsock")
UNITS = {name: CHECKOUT / f"roles/host/files/keystone-store-{name}.service" for name in UNIT_NAMES}


def on_host(world: World, attribute: str) -> Any:
    return world.host(attribute, "hostBuilds = true;")


@pytest.mark.parametrize("name", UNITS)
def test_a_nixos_host_has_the_services_of_the_role(world: World, name: str) -> None:
    """Each setting that both have is the same, but for programs and lists."""
    service = on_host(world, f'systemd.services."keystone-store-{name}".serviceConfig')
    theirs = dict(line.split("=", 1) for line in UNITS[name].read_text().splitlines() if "=" in line and line[0] != "#")
    for setting, value in service.items():
        if isinstance(value, (str, int)) and setting not in (
            "ExecStart",
            "RestrictAddressFamilies",
            "SystemCallFilter",
        ):
            given = str(value).lower() if isinstance(value, bool) else str(value)
            assert theirs.get(setting, "") == given, setting
    assert UNITS[name].read_text().count("LoadCredential") == len(service.get("LoadCredential", []))


def test_both_run_the_same_programs(world: World) -> None:
    for name in ("builder", "forward@", "proxy@", "vsock"):
        ours = on_host(world, f'systemd.services."keystone-store-{name}".serviceConfig.ExecStart').split()[1:]
        theirs = [line for line in UNITS[name].read_text().splitlines() if line.startswith("ExecStart=")]
        assert theirs[0].split()[1:] == ours


@pytest.mark.parametrize("name", ["proxy@", "vsock"])
def test_the_proxy_is_the_package_alone(world: World, name: str) -> None:
    path = on_host(world, f'systemd.services."keystone-store-{name}".environment.PYTHONPATH')
    assert path.endswith("-keystone-store-proxy")


def test_the_role_installs_the_whole_package() -> None:
    ours, theirs = CHECKOUT / "nix/modules/keystone_store_proxy", CHECKOUT / "roles/host/files/keystone_store_proxy"
    assert {path.name for path in ours.glob("*.py")} == {path.name for path in theirs.iterdir()}


def test_the_socket_is_for_the_user_of_the_proxies(world: World) -> None:
    socket = on_host(world, 'systemd.sockets."keystone-store-proxy@"')
    assert socket["listenStreams"] == ["/run/keystone-store/%i.socket"]
    assert socket["listenDatagrams"] == ["/run/keystone-store/%i.vsock"]
    assert socket["socketConfig"]["SocketMode"] == "0600"


def test_the_proxy_is_passed_its_sockets_in_this_order() -> None:
    """NixOS writes listenStreams first."""
    unit = (CHECKOUT / "roles/host/files/keystone-store-proxy@.socket").read_text().splitlines()
    assert [line for line in unit if line.startswith("Listen")] == [
        "ListenStream=/run/keystone-store/%i.socket",
        "ListenDatagram=/run/keystone-store/%i.vsock",
    ]


def test_the_host_listens_where_the_guest_connects(world: World) -> None:
    relay = (CHECKOUT / "nix/modules/keystone-store-relay").read_text()
    port = re.search(r"VMADDR_CID_HOST, (\d+)", relay)
    assert port
    socket = on_host(world, "systemd.sockets.keystone-store-vsock")
    assert socket["listenStreams"] == [f"vsock::{port[1]}"]
    assert socket["unitConfig"] == {"ConditionPathExists": "/dev/vhost-vsock"}
    unit = (CHECKOUT / "roles/host/files/keystone-store-vsock.socket").read_text()
    assert f"ListenStream=vsock::{port[1]}\n" in unit
    assert "ConditionPathExists=/dev/vhost-vsock\n" in unit


def test_a_guest_with_a_vsock_has_no_connection_over_ssh(world: World) -> None:
    condition = on_host(world, 'systemd.services."keystone-store-forward@".unitConfig.ConditionPathExists')
    assert condition == "/var/lib/keystone-virtiofs/guests/live/%i/ssh_config"
    assert f"ConditionPathExists={condition}\n" in UNITS["forward@"].read_text()


def test_the_user_of_the_proxies_must_not_be_trusted(world: World) -> None:
    trusted = '{ nix.settings.trusted-users = [ "keystone-store" ]; }'
    with pytest.raises(EvaluationError, match=r"trusted-users: with .*liveStore"):
        world.host("system.build.toplevel", "liveStore = true;", trusted)


def test_the_daemon_for_builds_has_the_settings_of_the_role(world: World) -> None:
    environment = on_host(world, "systemd.services.keystone-store-builder.environment")
    assert environment["NIX_USER_CONF_FILES"].endswith("-keystone-store-builder.conf")
    assert (CHECKOUT / "roles/host/files/keystone-store-builder.conf").samefile(SETTINGS)


def test_the_daemon_for_builds_trusts_no_guest_and_has_a_sandbox() -> None:
    lines = [line for line in SETTINGS.read_text().splitlines() if not line.startswith("#")]
    settings = dict(line.split(" = " if " = " in line else " =", 1) for line in lines)
    assert settings == {
        "allowed-users": "keystone-store",
        "trusted-users": "root",
        "build-users-group": "nixbld",
        "require-sigs": "true",
        "sandbox": "true",
        "sandbox-fallback": "false",
        "filter-syscalls": "true",
        "allow-new-privileges": "false",
        "experimental-features": "auto-allocate-uids",
        "system-features": "benchmark big-parallel",
        "builders": "",
        "substitute": "false",
        "post-build-hook": "",
        "max-build-log-size": "67108864",
    }


def test_the_daemon_for_builds_has_no_network(world: World) -> None:
    assert on_host(world, "systemd.services.keystone-store-builder.serviceConfig.PrivateNetwork") is True


def test_only_the_proxies_reach_the_daemon_for_builds(world: World) -> None:
    socket = on_host(world, "systemd.sockets.keystone-store-builder")
    assert socket["listenStreams"] == ["/run/keystone-store/builder/socket"]
    of_role = (CHECKOUT / "roles/host/files/keystone-store-builder.socket").read_text()
    assert all(f"{name}={value}\n" in of_role for name, value in socket["socketConfig"].items())
    assert (socket["socketConfig"]["SocketUser"], socket["socketConfig"]["SocketMode"]) == ("keystone-store", "0600")


def test_a_live_store_without_builds(world: World) -> None:
    assert "keystone-store-builder" not in world.host("systemd.services", "liveStore = true;")


def test_the_guest_lets_the_host_build(world: World) -> None:
    machine, *others = world.guest("nix.buildMachines", LIVE + "hostBuilds = true;")
    assert not others
    assert (machine["protocol"], machine["hostName"]) == (None, f"unix://{DIRECTORY}/host.socket")
    assert f"system-features = {' '.join(machine['supportedFeatures'])}\n" in SETTINGS.read_text()
    assert world.guest("nix.distributedBuilds", LIVE + "hostBuilds = true;") is True


def test_a_guest_builds_itself_by_default(world: World) -> None:
    assert world.guest("nix.buildMachines", LIVE) == []
    assert world.guest("nix.distributedBuilds", LIVE) is False


def test_builds_on_the_host_require_a_live_store(world: World) -> None:
    with pytest.raises(EvaluationError, match=r"hostBuilds: what the host builds is valid"):
        world.guest("system.build.toplevel", 'storeRegistration = "closure"; hostBuilds = true;')


def test_nothing_without_the_option(world: World) -> None:
    assert not [name for name in world.host("systemd.services") if name.startswith("keystone-store")]
