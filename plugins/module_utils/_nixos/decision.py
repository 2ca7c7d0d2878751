# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a machine runs a NixOS system. Pure: decides from what was found."""

from __future__ import annotations

from dataclasses import dataclass

from .._errors import InvalidInput

METHODS = ("auto", "install", "switch", "direct")
DOMAIN_STATES = ("none", "absent", "off", "running")

NONE, BOOT, INSTALL, SWITCH = "none", "boot", "install", "switch"


@dataclass(frozen=True)
class Machine:
    """What was found. ``domain`` is the state of its libvirt domain, ``none`` for a machine that is no VM of ours."""

    domain: str = "none"
    boots_directly: bool = False  # its domain boots a system of the host's store
    reachable: bool = False
    problem: str = ""  # why it was not reached
    fix: str = ""
    os_id: str = ""
    variant_id: str = ""
    current_system: str | None = None
    booted_system: str | None = None
    profile: str | None = None  # the system it boots next
    registration: str | None = None  # of the store paths that were valid from boot on

    @property
    def is_installer(self) -> bool:
        return self.variant_id == "installer"

    @property
    def is_nixos(self) -> bool:
        return self.os_id == "nixos" and not self.is_installer

    @property
    def described(self) -> str:
        if self.is_installer:
            return "a NixOS installer"
        if self.is_nixos:
            return f"NixOS with {self.current_system}"
        return f"{self.os_id or 'an unknown system'}"

    def runs(self, toplevel: str) -> bool:
        """It runs the system, and nothing else is to be booted next. A root on tmpfs has no profile."""
        return self.is_nixos and self.current_system == toplevel and self.profile in (None, toplevel)


@dataclass(frozen=True)
class Wanted:
    """What the task asks for. ``may_wipe``: its consent names this machine."""

    name: str
    toplevel: str
    method: str = "auto"
    may_wipe: bool = False
    reinstall: bool = False


@dataclass(frozen=True)
class Decision:
    """The action, and for people why."""

    action: str
    reason: str


def decide(machine: Machine, wanted: Wanted) -> Decision:
    """The one thing to do; raises InvalidInput where nothing may be done."""
    if wanted.method == "direct" or (wanted.method == "auto" and machine.boots_directly):
        return _direct(machine, wanted)
    _require_answer(machine, wanted)
    if wanted.reinstall and wanted.method != "switch":
        return _install(machine, wanted)
    if machine.is_nixos:
        return _installed(machine, wanted)
    if wanted.method == "switch":
        raise InvalidInput(
            f"{wanted.name} runs {machine.described}: there is no NixOS to switch",
            fix="Install it: nixos_guest_method install or auto.",
        )
    return _install(machine, wanted)


def _direct(machine: Machine, wanted: Wanted) -> Decision:
    if machine.domain == "none":
        raise InvalidInput(
            f"{wanted.name} is no VM of this host, so it cannot be given a kernel to boot",
            fix="Name its domain in nixos_guest_domain, or choose another method.",
        )
    if machine.domain != "running":
        return Decision(BOOT, f"the domain is {machine.domain}")
    _require_answer(machine, wanted)
    if not machine.is_nixos:
        return Decision(BOOT, f"it runs {machine.described}")
    return _installed(machine, wanted, direct=True)


def _require_answer(machine: Machine, wanted: Wanted) -> None:
    if machine.domain in ("absent", "off"):
        raise InvalidInput(
            f"{wanted.name}: its domain is {machine.domain}",
            fix="Start it with the role vm, or choose nixos_guest_method direct.",
        )
    if not machine.reachable:
        raise InvalidInput(f"{wanted.name}: {machine.problem}", fix=machine.fix)


def _installed(machine: Machine, wanted: Wanted, direct: bool = False) -> Decision:
    if machine.runs(wanted.toplevel):
        return Decision(NONE, "it runs the wanted system")
    if wanted.method == "install" and not direct:
        raise InvalidInput(
            f"{wanted.name} runs {machine.described}: it is installed already, with another system",
            fix="Switch it: nixos_guest_method switch or auto; or ask for nixos_guest_reinstall.",
        )
    if machine.current_system == wanted.toplevel:
        return Decision(SWITCH, f"it runs the wanted system, and would boot {machine.profile} next")
    return Decision(SWITCH, f"it runs {machine.current_system}")


def _install(machine: Machine, wanted: Wanted) -> Decision:
    if machine.is_installer:
        return Decision(INSTALL, "it runs a NixOS installer")
    if not wanted.may_wipe:
        raise InvalidInput(
            f"{wanted.name} runs {machine.described}, which an installation wipes with its disks",
            fix=f"If that is wanted, consent by name: nixos_guest_wipe: [{wanted.name}].",
        )
    return Decision(INSTALL, f"it runs {machine.described}, and may be wiped")
