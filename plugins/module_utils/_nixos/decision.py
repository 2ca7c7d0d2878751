# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be done so that a machine runs a NixOS system. Pure: decides from what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._errors import InvalidInput

METHODS = ("auto", "install", "switch", "direct")

NONE, BOOT, INSTALL, SWITCH = "none", "boot", "install", "switch"

_DIRECT_SYSTEM = re.compile(r"(?:^|\s)init=(/nix/store/[^/\s]+)")


@dataclass(frozen=True)
class Vm:
    """The libvirt domain of a machine."""

    state: str  # absent, stopped, paused, running
    direct_system: str | None = None  # the system of the host's store that the domain boots directly
    address: str | None = None  # of its ssh server
    port: int | None = None
    uuid: str | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Vm | None:
        """The domain with these facts, which are those of module domain_info; None for a machine without a domain.

        A machine that has an address, but no domain of its name, is not a VM of this host.
        """
        if facts is None or (facts["state"] == "absent" and options["address"]):
            return None
        ssh = facts.get("ssh") or {}
        init = _DIRECT_SYSTEM.search(facts.get("cmdline") or "")
        return cls(facts["state"], init and init[1], ssh.get("host"), ssh.get("port"), facts.get("uuid"))

    @property
    def is_running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class Endpoint:
    """The machine's ssh server. ``host_key`` is None if only the known_hosts file may have the key."""

    address: str
    port: int
    host_key: str | None

    @classmethod
    def of(cls, options: Mapping[str, Any], vm: Vm | None, agents_key: str | None) -> Endpoint:
        """What the options say goes before what is known of the domain."""
        return cls(
            address=options["address"] or (vm and vm.address) or options["name"],
            port=options["port"] or (vm and vm.port) or 22,
            host_key=options["host_key"] or agents_key,
        )


@dataclass(frozen=True)
class Machine:
    """What was found on the machine itself."""

    reachable: bool = False
    problem: str = ""  # why the machine was not reached
    fix: str = ""
    os_id: str = ""
    variant_id: str = ""
    current_system: str | None = None
    booted_system: str | None = None
    profile: str | None = None  # the boot default
    registration: str | None = None  # of the store paths that were valid from boot on
    needs_restart: bool = False  # for the requested system, because stage 1 has mounted other file systems
    uuid: str | None = None  # None where the machine's firmware has no SMBIOS

    @property
    def is_installer(self) -> bool:
        return self.variant_id == "installer"

    @property
    def is_nixos(self) -> bool:
        return self.os_id == "nixos" and not self.is_installer

    @property
    def description(self) -> str:
        if self.is_installer:
            return "a NixOS installer"
        if self.is_nixos:
            return f"NixOS with {self.current_system}"
        return self.os_id or "an unknown system"

    def runs(self, toplevel: str) -> bool:
        """Whether the machine runs the system and has no other boot default. A root on tmpfs has no profile."""
        return self.is_nixos and self.current_system == toplevel and self.profile in (None, toplevel)


@dataclass(frozen=True)
class SystemRequest:
    """What the task asks for. ``may_wipe``: the task's consent names this machine."""

    name: str
    toplevel: str
    method: str = "auto"
    may_wipe: bool = False
    reinstall: bool = False


@dataclass(frozen=True)
class Decision:
    """The action, and a reason for people.

    ``direct_boot``: the domain must get the system's kernel and initrd, for this boot or for its next one.
    """

    action: str
    reason: str
    direct_boot: bool = False


def decide(vm: Vm | None, machine: Machine, request: SystemRequest) -> Decision:
    """The one thing to do; raises InvalidInput if no action is permitted. ``vm`` is None for a machine without one."""
    _require_identity(vm, machine, request)
    boots_directly = vm is not None and vm.direct_system is not None
    if request.method == "direct" or (request.method == "auto" and boots_directly):
        action, reason = _boot_or_switch(vm, machine, request)
    else:
        action, reason = _install_or_switch(vm, machine, request)
    direct_boot = request.method == "direct" or (request.method != "install" and boots_directly)
    if action == SWITCH and machine.needs_restart and direct_boot:
        action, reason = BOOT, f"{reason}, whose stage 1 has mounted other file systems"
    return Decision(action, reason, direct_boot)


def _boot_or_switch(vm: Vm | None, machine: Machine, request: SystemRequest) -> tuple[str, str]:
    if vm is None:
        raise InvalidInput(
            f"{request.name} is not a VM of this host, so it cannot be booted directly",
            fix="Set domain (role variable nixos_guest_domain), or choose another method.",
        )
    if not vm.is_running:
        return BOOT, f"the domain is {vm.state}"
    _require_answer(vm, machine, request)
    if not machine.is_nixos:
        return BOOT, f"the guest runs {machine.description}"
    return _switch_unless_current(machine, request)


def _install_or_switch(vm: Vm | None, machine: Machine, request: SystemRequest) -> tuple[str, str]:
    _require_answer(vm, machine, request)
    if request.reinstall and request.method != "switch":
        return _install(machine, request)
    if machine.is_nixos:
        return _switch_unless_current(machine, request)
    if request.method == "switch":
        raise InvalidInput(
            f"{request.name} runs {machine.description}: there is no NixOS to switch",
            fix="Set method (role variable nixos_guest_method) to install or auto.",
        )
    return _install(machine, request)


def _require_identity(vm: Vm | None, machine: Machine, request: SystemRequest) -> None:
    """Refuse another machine than the domain, to which the domain's guest has led: it names address and host key.

    The guest may also pass ssh's connection on. Only the host key decides which machine answers, and that one has no
    reason to lie.
    """
    if vm is None or None in (vm.uuid, machine.uuid) or vm.uuid == machine.uuid:
        return
    raise InvalidInput(
        f"{request.name}: the machine that answers is not the domain: its UUID is {machine.uuid}, and the domain's is"
        f" {vm.uuid}",
        fix=(
            "Check what runs in the guest: its guest agent names the address and the host key. To reach the domain"
            " itself, set address and host_key (role variables nixos_guest_address and nixos_guest_host_key)."
        ),
    )


def _require_answer(vm: Vm | None, machine: Machine, request: SystemRequest) -> None:
    if vm is not None and not vm.is_running:
        raise InvalidInput(
            f"{request.name}: the domain is {vm.state}",
            fix="Start the domain with the role vm, or set method (role variable nixos_guest_method) to direct.",
        )
    if not machine.reachable:
        raise InvalidInput(f"{request.name}: {machine.problem}", fix=machine.fix)


def _switch_unless_current(machine: Machine, request: SystemRequest) -> tuple[str, str]:
    if machine.runs(request.toplevel):
        return NONE, "the guest runs the requested system"
    if request.method == "install":
        raise InvalidInput(
            f"{request.name} runs {machine.description}: it is installed already, with another system",
            fix=(
                "Set method to switch or auto, or set reinstall (role variables nixos_guest_method and"
                " nixos_guest_reinstall)."
            ),
        )
    if machine.current_system == request.toplevel:
        return SWITCH, f"the guest runs the requested system, but its boot default is {machine.profile}"
    return SWITCH, f"the guest runs {machine.current_system}"


def _install(machine: Machine, request: SystemRequest) -> tuple[str, str]:
    if machine.is_installer:
        return INSTALL, "the guest runs a NixOS installer"
    if not request.may_wipe:
        raise InvalidInput(
            f"{request.name} runs {machine.description}; an installation would erase its disks",
            fix=f"To allow this, list the machine in wipe (role variable nixos_guest_wipe): [{request.name}].",
        )
    return INSTALL, f"the guest runs {machine.description} and may be erased"
