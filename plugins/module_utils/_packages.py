# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of packages on the distributions of docs/platforms.md, with which a test compares them. Pure: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSTALL = {"debian": "apt-get install", "fedora": "dnf install", "arch": "pacman -S"}
_PACKAGES = {
    "libvirt": {
        "debian": "libvirt-daemon-system libvirt-clients dnsmasq-base nftables",
        "fedora": "libvirt-daemon-kvm libvirt-daemon-config-network libvirt-client dnsmasq nftables",
        "arch": "libvirt dnsmasq nftables",
        "nixos": "virtualisation.libvirtd.enable = true;",
    },
    "QEMU": {
        "debian": "qemu-system-x86 qemu-utils",
        "fedora": "qemu-kvm qemu-img",
        "arch": "qemu-base qemu-img",
        "nixos": "virtualisation.libvirtd.enable = true;",
    },
    "virtiofsd": {
        "debian": "virtiofsd",
        "fedora": "virtiofsd",
        "arch": "virtiofsd",
        "nixos": "virtualisation.libvirtd.qemu.vhostUserPackages = [ pkgs.virtiofsd ];",
    },
    "UEFI firmware": {
        "debian": "ovmf",
        "fedora": "edk2-ovmf",
        "arch": "edk2-ovmf",
        "nixos": "virtualisation.libvirtd.enable = true;",
    },
    "swtpm": {
        "debian": "swtpm swtpm-tools",
        "fedora": "swtpm swtpm-tools",
        "arch": "swtpm",
        "nixos": "virtualisation.libvirtd.qemu.swtpm.enable = true;",
    },
    "Python bindings": {
        "debian": "python3-libvirt python3-lxml",
        "fedora": "python3-libvirt python3-lxml",
        "arch": "libvirt-python python-lxml",
        "nixos": "environment.systemPackages = [ (pkgs.python3.withPackages (p: [ p.libvirt p.lxml ])) ];",
    },
}
# Versions with other names than their family, by need, ID and VERSION_ID.
_EXCEPTIONS = {
    ("virtiofsd", "debian", "12"): "qemu-system-common",
    ("virtiofsd", "ubuntu", "22.04"): "qemu-system-common",
}


def install_fix(os_release: Mapping[str, str], need: str) -> str:
    """How to install a need (a key of _PACKAGES) on the distribution that os-release describes."""
    family = _family(os_release)
    if not family:
        return f"Install {need} with this distribution's package manager"
    version = (need, os_release.get("ID", ""), os_release.get("VERSION_ID", ""))
    packages = _EXCEPTIONS.get(version, _PACKAGES[need][family])
    return f"Set {packages} and rebuild" if family == "nixos" else f"{_INSTALL[family]} {packages}"


def _family(os_release: Mapping[str, str]) -> str:
    """The family of distributions that shares package names; empty for an unknown one."""
    names = [os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()]
    return next((name for name in names if name in _INSTALL or name == "nixos"), "")
