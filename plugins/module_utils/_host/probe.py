# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host can do, read from the host itself: files and short-lived processes, no libvirt."""

from __future__ import annotations

import grp
import json
import os
import platform
import pwd
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _commands
from .._errors import HostError
from .._features import Version, Virtiofsd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LIBVIRT_GROUPS = ("libvirt", "libvirtd")  # Debian, Fedora, Arch Linux; NixOS
_SUBORDINATE_IDS_NEEDED = 65536
_TOOL_TIMEOUT = 10.0


@dataclass(frozen=True)
class Firmware:
    """A firmware image for guests, as its descriptor describes it."""

    path: str
    uefi: bool
    secure_boot: bool
    enrolled_keys: bool

    @property
    def setup_mode(self) -> bool:
        """Secure Boot without keys: the guest may enrol its own."""
        return self.secure_boot and not self.enrolled_keys


def is_nixos() -> bool:
    return Path("/etc/NIXOS").exists()


def descriptor_dirs(kind: str, session: bool = False, environ: Mapping[str, str] | None = None) -> list[Path]:
    """Where libvirt looks for descriptors of a kind (vhost-user, firmware), the highest precedence last.

    libvirt in nixpkgs is built with /var/lib as its sysconfdir.
    """
    sysconfdir = "/var/lib" if is_nixos() else "/etc"
    dirs = [Path("/usr/share/qemu", kind), Path(sysconfdir, "qemu", kind)]
    if session:
        environ = os.environ if environ is None else environ
        config_home = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
        dirs.append(Path(config_home, "qemu", kind))
    return dirs


def descriptor_files(dirs: Iterable[Path]) -> list[Path]:
    """The descriptors in libvirt's order: by file name; of two with one name the later folder's counts.

    An empty file hides those of its name in the folders before.
    """
    by_name: dict[str, Path] = {}
    for folder in dirs:
        if folder.is_dir():
            by_name.update((file.name, file) for file in folder.iterdir() if _is_descriptor(file))
    return [by_name[name] for name in sorted(by_name) if by_name[name].stat().st_size > 0]


def _is_descriptor(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")


def read_descriptor(file: Path) -> dict[str, Any] | None:
    """A descriptor's content; None when it cannot be read as a JSON object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def broken_descriptors(dirs: Iterable[Path]) -> list[Path]:
    """Descriptors that libvirt cannot parse: one is enough to make every share fail."""
    return [file for file in descriptor_files(dirs) if read_descriptor(file) is None]


def find_virtiofsd(dirs: Iterable[Path]) -> Virtiofsd | None:
    """The daemon that libvirt takes when the share names none: the first descriptor of type "fs"."""
    for file in descriptor_files(dirs):
        descriptor = read_descriptor(file) or {}
        if descriptor.get("type") == "fs" and descriptor.get("binary"):
            return identify_virtiofsd(descriptor["binary"])
    return None


def identify_virtiofsd(binary: str) -> Virtiofsd:
    version, legacy = parse_virtiofsd_version(_output_of([binary, "--version"]))
    # Without the policy, the daemon refuses the option before it prints anything.
    capabilities = "" if legacy or version is None else _output_of([binary, "--cache=store", "--print-capabilities"])
    return Virtiofsd(binary, version, legacy, caches_stores='"fs"' in capabilities)


def parse_virtiofsd_version(text: str) -> tuple[Version | None, bool]:
    """Version and whether it is the C daemon: only that one says the word "version"."""
    found = re.search(r"^virtiofsd (version )?v?(\d+(?:\.\d+)+)", text, re.MULTILINE)
    if found is None:
        return None, False
    return _version(found.group(2)), found.group(1) is not None


def qemu_version(emulator: str) -> Version | None:
    found = re.search(r"^QEMU emulator version (\d+(?:\.\d+)+)", _output_of([emulator, "--version"]), re.MULTILINE)
    return _version(found.group(1)) if found else None


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _output_of(command: Sequence[str]) -> str:
    """What a tool prints; nothing when it cannot be run."""
    try:
        return _commands.run(command, timeout=_TOOL_TIMEOUT).stdout
    except HostError:
        return ""


def find_emulator(machine: str | None = None) -> str | None:
    """QEMU for this machine's own architecture, the only one that KVM is of use to."""
    name = f"qemu-system-{machine or platform.machine()}"
    places = (f"/run/libvirt/nix-emulators/{name}", shutil.which(name), "/usr/libexec/qemu-kvm")
    return next((place for place in places if place and os.access(place, os.X_OK)), None)


def most_open_files() -> int:
    """How many files the kernel lets a process open at most."""
    return int(Path("/proc/sys/fs/nr_open").read_text())


def supports_memfd() -> bool:
    """Whether guests' memory can be a shared memfd, which virtiofs needs."""
    try:
        os.close(os.memfd_create("keystone-probe"))
    except (AttributeError, OSError):
        return False
    return True


def apparmor_confines_libvirt(
    profiles: Path = Path("/sys/kernel/security/apparmor/profiles"),
) -> bool:
    """Whether AppArmor holds libvirt's daemon: then only the stock places of virtiofsd may be run."""
    try:
        loaded = profiles.read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^(/usr/sbin/)?(libvirtd|virtqemud) \(enforce\)", loaded, re.MULTILINE) is not None


def may_use_system_libvirt() -> bool:
    """Whether this user is root or in libvirt's group (libvirt asks polkit otherwise)."""
    if os.geteuid() == 0:
        return True
    return any(_group_name(gid) in _LIBVIRT_GROUPS for gid in os.getgroups())


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def has_subordinate_ids(user: str, files: Iterable[Path] = (Path("/etc/subuid"), Path("/etc/subgid"))) -> bool:
    """Whether the user may map a full range of ids, which a share in session mode needs."""
    return all(_subordinate_ids(user, file) >= _SUBORDINATE_IDS_NEEDED for file in files)


def _subordinate_ids(user: str, file: Path) -> int:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    entries = (line.split(":") for line in lines)
    return sum(int(entry[2]) for entry in entries if len(entry) == 3 and entry[0] == user and entry[2].isdigit())


def find_firmware(dirs: Iterable[Path], machine: str | None = None) -> list[Firmware]:
    """The firmware images for this machine's architecture, in libvirt's order of preference."""
    descriptors = ((file, read_descriptor(file) or {}) for file in descriptor_files(dirs))
    architecture = machine or platform.machine()
    return [_firmware(file, content) for file, content in descriptors if architecture in _architectures(content)]


def _architectures(descriptor: Mapping[str, Any]) -> list[str]:
    return [target.get("architecture", "") for target in descriptor.get("targets", [])]


def _firmware(file: Path, descriptor: Mapping[str, Any]) -> Firmware:
    features = descriptor.get("features", [])
    return Firmware(
        path=str(file),
        uefi="uefi" in descriptor.get("interface-types", []),
        secure_boot="secure-boot" in features,
        enrolled_keys="enrolled-keys" in features,
    )


def has_swtpm() -> bool:
    return shutil.which("swtpm") is not None


def has_vsock() -> bool:
    """Whether guests can have a vsock; the device exists as soon as the kernel's module does, loaded or not."""
    return Path("/dev/vhost-vsock").exists()


def has_systemd() -> bool:
    """Whether systemd runs the services here (sd_booted's own test)."""
    return Path("/run/systemd/system").is_dir()


def os_release(file: Path = Path("/etc/os-release")) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key: value.strip("\"'") for key, _equals, value in pairs}
