# SPDX-License-Identifier: GPL-3.0-or-later
"""Which action each machine gets: the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._nixos.decision import (
    METHODS,
    Endpoint,
    Machine,
    SystemRequest,
    Vm,
    decide,
)

NEW = "/nix/store/new-system"
OLD = "/nix/store/old-system"

NO_VM = None
ABSENT, STOPPED, PAUSED, VM = Vm("absent"), Vm("stopped"), Vm("paused"), Vm("running")
STOPPED_DIRECT, DIRECT = replace(STOPPED, direct_system=OLD), replace(VM, direct_system=OLD)

UNSEEN = Machine()
SILENT = Machine(problem="cannot reach root@web port 22 over ssh: timed out", fix="Check the console.")
INSTALLER = Machine(reachable=True, os_id="nixos", variant_id="installer")
DEBIAN = Machine(reachable=True, os_id="debian")
NAMELESS = Machine(reachable=True)
SAME = Machine(reachable=True, os_id="nixos", current_system=NEW, profile=NEW)
OTHER = replace(SAME, current_system=OLD, profile=OLD)
# A power cut between activation and the change of the boot default.
HALF_WAY = replace(SAME, profile=OLD)
# Stage 1 has mounted other file systems than the requested system needs.
OTHER_MOUNTS = replace(OTHER, needs_restart=True)
# Booted from the host's store: the root is on tmpfs, so there is no profile.
SAME_ON_TMPFS, OTHER_ON_TMPFS = replace(SAME, profile=None), replace(OTHER, profile=None)

NOT_A_VM = "not a VM of this host"
TABLE = {
    # domain and system: what auto, install, switch and direct do; for a refusal, words of the message
    "absent": (ABSENT, UNSEEN, "domain is absent", "domain is absent", "domain is absent", "boot"),
    "stopped": (STOPPED, UNSEEN, "domain is stopped", "domain is stopped", "domain is stopped", "boot"),
    "paused": (PAUSED, UNSEEN, "domain is paused", "domain is paused", "domain is paused", "boot"),
    "stopped, booted directly before": (STOPPED_DIRECT, UNSEEN, "boot", "is stopped", "is stopped", "boot"),
    "silent": (NO_VM, SILENT, "timed out", "timed out", "timed out", NOT_A_VM),
    "silent VM": (DIRECT, SILENT, "timed out", "timed out", "timed out", "timed out"),
    "installer": (NO_VM, INSTALLER, "install", "install", "no NixOS to switch", NOT_A_VM),
    "a VM with the installer": (VM, INSTALLER, "install", "install", "no NixOS to switch", "boot"),
    "Debian": (NO_VM, DEBIAN, "runs debian; an", "runs debian; an", "runs debian: there is no", NOT_A_VM),
    "a VM with Debian": (VM, DEBIAN, "erase its disks", "erase its disks", "there is no NixOS", "boot"),
    "unknown": (NO_VM, NAMELESS, "an unknown system", "an unknown system", "an unknown system", NOT_A_VM),
    "same": (NO_VM, SAME, "none", "none", "none", NOT_A_VM),
    "other": (NO_VM, OTHER, "switch", "installed already", "switch", NOT_A_VM),
    "a VM with another": (VM, OTHER, "switch", "installed already", "switch", "switch"),
    "other mounts": (NO_VM, OTHER_MOUNTS, "switch", "installed already", "switch", NOT_A_VM),
    "a VM with other mounts": (VM, OTHER_MOUNTS, "switch", "installed already", "switch", "boot"),
    "directly booted, other mounts": (DIRECT, OTHER_MOUNTS, "boot", "installed already", "boot", "boot"),
    "half-way": (NO_VM, HALF_WAY, "switch", "installed already", "switch", NOT_A_VM),
    "directly booted, same": (DIRECT, SAME_ON_TMPFS, "none", "none", "none", "none"),
    "directly booted, other": (DIRECT, OTHER_ON_TMPFS, "switch", "installed already", "switch", "switch"),
}


def outcome(vm: Vm | None, machine: Machine, request: SystemRequest) -> str:
    """The action, or the whole message of a refusal."""
    try:
        return decide(vm, machine, request).action
    except InvalidInput as error:
        return str(error)


@pytest.mark.parametrize("found", TABLE)
@pytest.mark.parametrize("method", METHODS)
def test_the_table(found: str, method: str) -> None:
    vm, machine, *expected = TABLE[found]
    words = expected[METHODS.index(method)]
    said = outcome(vm, machine, SystemRequest("web", NEW, method))
    assert said == words or (" " in words and words in said)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("machine", [INSTALLER, DEBIAN, SAME, OTHER])
def test_a_guest_that_leads_to_another_machine_is_refused(machine: Machine, method: str) -> None:
    vm, request = replace(VM, uuid="1"), SystemRequest("web", NEW, method, may_wipe=True)
    refusal = outcome(vm, replace(machine, uuid="2"), request)
    assert "the machine that answers is not the domain" in refusal
    assert "nixos_guest_host_key" in refusal
    unknown = outcome(vm, machine, request)
    assert outcome(vm, replace(machine, uuid="1"), request) == unknown
    assert outcome(NO_VM, replace(machine, uuid="2"), request) == outcome(NO_VM, machine, request)


@pytest.mark.parametrize("machine", [DEBIAN, NAMELESS])
@pytest.mark.parametrize("method", ["auto", "install"])
def test_another_system_is_erased_with_consent_only(machine: Machine, method: str) -> None:
    refusal = outcome(NO_VM, machine, SystemRequest("web", NEW, method))
    assert "list the machine in wipe (role variable nixos_guest_wipe): [web]" in refusal
    assert outcome(NO_VM, machine, SystemRequest("web", NEW, method, may_wipe=True)) == "install"


@pytest.mark.parametrize("machine", [SAME, OTHER, HALF_WAY])
@pytest.mark.parametrize("method", ["auto", "install"])
def test_an_installed_nixos_is_reinstalled_on_request_and_with_consent_only(machine: Machine, method: str) -> None:
    assert outcome(NO_VM, machine, SystemRequest("web", NEW, method, may_wipe=True)) != "install"
    assert "nixos_guest_wipe): [web]" in outcome(NO_VM, machine, SystemRequest("web", NEW, method, reinstall=True))
    assert outcome(NO_VM, machine, SystemRequest("web", NEW, method, may_wipe=True, reinstall=True)) == "install"


@pytest.mark.parametrize(
    ("vm", "machine"), [(NO_VM, SILENT), (DIRECT, SILENT), (ABSENT, UNSEEN), (STOPPED, UNSEEN), (PAUSED, UNSEEN)]
)
def test_no_consent_helps_where_nothing_is_known(vm: Vm | None, machine: Machine) -> None:
    request = SystemRequest("web", NEW, "install", may_wipe=True, reinstall=True)
    assert outcome(vm, machine, request) != "install"


@pytest.mark.parametrize("method", ["switch", "direct"])
@pytest.mark.parametrize("vm", [NO_VM, VM, DIRECT])
@pytest.mark.parametrize("machine", [SAME, OTHER, DEBIAN, INSTALLER, SAME_ON_TMPFS])
def test_switch_and_direct_never_install(vm: Vm | None, machine: Machine, method: str) -> None:
    request = SystemRequest("web", NEW, method, may_wipe=True, reinstall=True)
    assert outcome(vm, machine, request) != "install"


@pytest.mark.parametrize(
    ("vm", "machine", "method", "direct_boot"),
    [
        (VM, SAME, "auto", False),
        (VM, SAME, "direct", True),
        (NO_VM, SAME, "auto", False),
        (STOPPED, UNSEEN, "direct", True),
        (DIRECT, SAME_ON_TMPFS, "auto", True),
        (DIRECT, OTHER_ON_TMPFS, "auto", True),
        # The VM boots the new system next time.
        (DIRECT, OTHER_ON_TMPFS, "switch", True),
        # An installed system has a boot loader of its own.
        (DIRECT, INSTALLER, "install", False),
    ],
)
def test_which_vm_gets_kernel_and_initrd(vm: Vm | None, machine: Machine, method: str, direct_boot: bool) -> None:
    assert decide(vm, machine, SystemRequest("web", NEW, method)).direct_boot is direct_boot


# What is known of the domain, and where the ssh server is.

NO_ADDRESS: dict[str, str | None] = {"address": None}
FACTS = {"name": "web", "state": "running", "cmdline": None, "ssh": {"host": "192.0.2.7", "port": 22}}


@pytest.mark.parametrize(
    ("cmdline", "system"),
    [
        (f"init={OLD}/init regInfo=/nix/store/r", OLD),
        (f"quiet init={OLD}/init", OLD),
        (f"systemd.init={OLD}/init", None),
        ("init=/bin/sh", None),
        ("quiet", None),
        ("", None),
        (None, None),
    ],
)
def test_the_system_that_a_domain_boots_directly(cmdline: str | None, system: str | None) -> None:
    vm = Vm.of({**FACTS, "cmdline": cmdline}, NO_ADDRESS)
    assert vm == Vm("running", system, "192.0.2.7", 22)


def test_a_domain_that_does_not_exist_is_no_vm_of_a_machine_with_an_address() -> None:
    absent = {"name": "web", "state": "absent"}
    assert Vm.of(absent, NO_ADDRESS) == Vm("absent")
    assert Vm.of(absent, {"address": "192.0.2.1"}) is None
    assert Vm.of(None, NO_ADDRESS) is None


@pytest.mark.parametrize("state", ["stopped", "paused", "running"])
def test_an_existing_domain_counts_also_if_the_machine_has_an_address(state: str) -> None:
    vm = Vm.of({"name": "web", "state": state, "ssh": None}, {"address": "192.0.2.1"})
    assert vm == Vm(state)


OPTIONS = {"name": "web", "address": None, "port": None, "host_key": None}
FORWARDED = Vm("running", None, "127.0.0.1", 2222)


@pytest.mark.parametrize(
    ("options", "vm", "agents_key", "endpoint"),
    [
        ({}, None, None, Endpoint("web", 22, None)),
        ({}, Vm("running"), None, Endpoint("web", 22, None)),
        ({}, FORWARDED, "ssh-ed25519 A", Endpoint("127.0.0.1", 2222, "ssh-ed25519 A")),
        ({"address": "192.0.2.1"}, FORWARDED, None, Endpoint("192.0.2.1", 2222, None)),
        ({"port": 2022}, FORWARDED, None, Endpoint("127.0.0.1", 2022, None)),
        ({"host_key": "ssh-rsa B"}, FORWARDED, "ssh-ed25519 A", Endpoint("127.0.0.1", 2222, "ssh-rsa B")),
    ],
)
def test_options_go_before_what_is_known_of_the_domain(
    options: dict[str, object], vm: Vm | None, agents_key: str | None, endpoint: Endpoint
) -> None:
    assert Endpoint.of({**OPTIONS, **options}, vm, agents_key) == endpoint
