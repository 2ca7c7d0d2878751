# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a host, and the fix: one small rule each. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._features import (
    Virtiofsd,
    format_version,
    unavailable,
)
from .._packages import install_fix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._features import Version
    from .kvm import KvmProbe
    from .probe import Firmware

ERROR, WARNING, INFO = "error", "warning", "info"
_OLDEST_LIBVIRT = 6009000
VSOCK_FIX = "modprobe vhost_vsock (as root)"


@dataclass(frozen=True)
class Finding:
    """``error`` prevents shares from working, ``warning`` makes guests slower, ``info`` is a hint."""

    id: str
    severity: str
    problem: str
    fix: str


@dataclass(frozen=True)
class HostFacts:
    """What was probed. ``libvirt`` is None when it could not be asked, ``libvirt_error`` says why."""

    libvirt: int | None
    libvirt_error: str
    libvirt_installed: bool
    python_binding: bool
    session: bool
    user: str
    may_use_libvirt: bool
    systemd: bool
    os_release: Mapping[str, str]
    emulator: str | None
    qemu: Version | None
    kvm: KvmProbe
    kvm_device_inaccessible: bool
    virtiofsd: Virtiofsd | None
    virtiofsd_executable: bool
    broken_descriptors: Sequence[str]
    memfd: bool
    apparmor: bool
    firmware: Sequence[Firmware]
    swtpm: bool
    vsock: bool
    subordinate_ids: bool


def find_problems(facts: HostFacts) -> list[Finding]:
    """Everything to be said about this host, the worst first."""
    found = [finding for finding in (rule(facts) for rule in _RULES) if finding]
    return sorted(found, key=lambda finding: (ERROR, WARNING, INFO).index(finding.severity))


def _install(facts: HostFacts, need: str) -> str:
    return install_fix(facts.os_release, need)


def _libvirt(facts: HostFacts) -> Finding | None:
    if facts.libvirt is not None:
        return _libvirt_too_old(facts.libvirt)
    if not facts.libvirt_installed:
        return Finding("libvirt_missing", ERROR, "libvirt is not installed", _install(facts, "libvirt"))
    if not facts.python_binding:
        problem = "Python on this host cannot import libvirt"
        return Finding("python_libvirt_missing", ERROR, problem, _install(facts, "Python bindings"))
    if not facts.session and not facts.may_use_libvirt:
        fix = f"usermod -aG libvirt {facts.user} (as root; NixOS: group libvirtd), then log in again"
        problem = f"user {facts.user} is not in the libvirt group: {facts.libvirt_error}"
        return Finding("not_in_libvirt_group", ERROR, problem, fix)
    return Finding("libvirt_unreachable", ERROR, f"libvirt does not answer: {facts.libvirt_error}", _start(facts))


def _libvirt_too_old(version: int) -> Finding | None:
    if version >= _OLDEST_LIBVIRT:
        return None
    problem = f"libvirt {format_version(version)} is too old: shares need {format_version(_OLDEST_LIBVIRT)}"
    return Finding("libvirt_too_old", ERROR, problem, "Upgrade libvirt")


def _start(facts: HostFacts) -> str:
    if facts.session:
        return "Run virtqemud or libvirtd as this user, with XDG_RUNTIME_DIR set"
    if facts.systemd:
        return "systemctl start libvirtd (with modular daemons: virtqemud.socket)"
    return "service virtlogd start; service libvirtd start"


def _emulator(facts: HostFacts) -> Finding | None:
    if facts.emulator:
        return None
    return Finding("qemu_missing", ERROR, "QEMU for this machine is not installed", _install(facts, "QEMU"))


def _virtiofsd(facts: HostFacts) -> Finding | None:
    if facts.virtiofsd is None:
        problem = 'no vhost-user descriptor of type "fs" names a virtiofsd'
        return Finding("virtiofsd_missing", ERROR, problem, _install(facts, "virtiofsd"))
    if not facts.virtiofsd_executable:
        problem = f"{facts.virtiofsd.path}, named by a vhost-user descriptor, is not executable"
        return Finding("virtiofsd_not_executable", ERROR, problem, _install(facts, "virtiofsd"))
    return None


def _descriptors(facts: HostFacts) -> Finding | None:
    if not facts.broken_descriptors:
        return None
    problem = f"invalid JSON in {', '.join(facts.broken_descriptors)}; libvirt refuses every share because of it"
    return Finding("vhost_user_descriptor_broken", ERROR, problem, "Repair or remove the file")


def _memfd(facts: HostFacts) -> Finding | None:
    if facts.memfd:
        return None
    problem = "no shared memory for guests: the kernel refuses memfd_create"
    return Finding("no_shared_memory", ERROR, problem, "Use a kernel >= 3.17 without a seccomp filter on memfd_create")


def _session(facts: HostFacts) -> Finding | None:
    if not facts.session or facts.libvirt is None:
        return None
    too_old = unavailable("session", facts.libvirt, facts.virtiofsd)
    if too_old:
        return Finding("session_unsupported", ERROR, too_old, "Use qemu:///system, or upgrade")
    if facts.subordinate_ids:
        return None
    problem = f"user {facts.user} has fewer than 65536 subordinate ids, which shares in session mode map"
    fix = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {facts.user} (as root)"
    return Finding("no_subordinate_ids", ERROR, problem, fix)


def _kvm(facts: HostFacts) -> Finding | None:
    if facts.kvm.usable:
        return None
    fix = (
        "Enable virtualization (VT-x, AMD-V) in the firmware, or nested virtualization in the hypervisor "
        "below; load kvm_intel or kvm_amd; join the device's group"
    )
    problem = f"KVM is unusable, so guests run emulated (TCG), many times slower: {facts.kvm.reason}"
    return Finding("kvm_unusable", WARNING, problem, fix)


def _kvm_smm(facts: HostFacts) -> Finding | None:
    if not facts.kvm.usable or facts.kvm.smm:
        return None
    problem = "KVM lacks System Management Mode, so guests with Secure Boot run emulated (TCG), many times slower"
    return Finding("kvm_without_smm", INFO, problem, "Update the hypervisor below, or run on real hardware")


def _kvm_device(facts: HostFacts) -> Finding | None:
    if facts.session or not facts.kvm_device_inaccessible:
        return None
    problem = (
        "libvirt's QEMU user cannot open /dev/kvm, so libvirt probes QEMU again for every query of its capabilities, "
        "which takes seconds"
    )
    return Finding(
        "kvm_device_inaccessible", WARNING, problem, "chgrp kvm /dev/kvm; chmod 0660 /dev/kvm (udev does this)"
    )


def _readonly(facts: HostFacts) -> Finding | None:
    if facts.libvirt is None or facts.virtiofsd is None:
        return None
    reason = unavailable("read_only", facts.libvirt, facts.virtiofsd)
    if reason is None:
        return None
    fix = "Nothing to do: read-only shares export a read-only bind mount of their source instead"
    return Finding("read_only_by_bind_mount", INFO, reason, fix)


def _apparmor(facts: HostFacts) -> Finding | None:
    if not facts.apparmor:
        return None
    problem = "AppArmor lets libvirt run virtiofsd from its stock places only, not through a wrapper script"
    fix = (
        "For cache metadata, cache store and inode_file_handles: add 'WRAPPER PUx,' to "
        "/etc/apparmor.d/local/usr.sbin.libvirtd (or usr.sbin.virtqemud) and reload the profile"
    )
    return Finding("apparmor_wrapper", INFO, problem, fix)


def _firmware(facts: HostFacts) -> Finding | None:
    if not any(firmware.uefi for firmware in facts.firmware):
        problem = "no UEFI firmware is installed; guests can only use BIOS"
        return Finding("no_uefi", INFO, problem, _install(facts, "UEFI firmware"))
    if not any(firmware.setup_mode for firmware in facts.firmware):
        problem = "no Secure Boot firmware without enrolled keys: no guest in setup mode"
        return Finding("no_setup_mode", INFO, problem, _install(facts, "UEFI firmware"))
    return None


def _swtpm(facts: HostFacts) -> Finding | None:
    if facts.swtpm:
        return None
    return Finding("no_swtpm", INFO, "no swtpm: guests cannot have a TPM", _install(facts, "swtpm"))


def _vsock(facts: HostFacts) -> Finding | None:
    if facts.vsock:
        return None
    return Finding("no_vsock", INFO, "no /dev/vhost-vsock: guests cannot have a vsock", VSOCK_FIX)


_RULES: tuple[Callable[[HostFacts], Finding | None], ...] = (
    _libvirt,
    _emulator,
    _virtiofsd,
    _descriptors,
    _memfd,
    _session,
    _kvm,
    _kvm_smm,
    _kvm_device,
    _readonly,
    _apparmor,
    _firmware,
    _swtpm,
    _vsock,
)
