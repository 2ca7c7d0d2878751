# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at the host: what libvirt tells and what the host itself shows, together."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from urllib.parse import urlsplit

from . import probe
from .errors import VirtiofsError
from .findings import HostFacts
from .gateway import LIBVIRT_IMPORT_ERROR, Gateway


@dataclass(frozen=True)
class Versions:
    """What libvirt tells about itself and its QEMU; ``error`` says why it told nothing."""

    libvirt: int | None = None
    qemu: int | None = None
    error: str = ""


def read_versions(uri: str) -> Versions:
    if LIBVIRT_IMPORT_ERROR:
        return Versions(error="this Python cannot import libvirt")
    try:
        with Gateway(uri) as gateway:
            return Versions(gateway.libvirt_version(), gateway.hypervisor_version())
    except VirtiofsError as error:
        return Versions(error=error.problem)


def probe_host(uri: str, versions: Versions) -> HostFacts:
    session = urlsplit(uri).path == "/session"
    descriptors = probe.descriptor_dirs("vhost-user", session)
    virtiofsd = probe.find_virtiofsd(descriptors)
    emulator = probe.find_emulator()
    user = probe.user_name()
    return HostFacts(
        libvirt=versions.libvirt,
        libvirt_error=versions.error,
        python_binding=LIBVIRT_IMPORT_ERROR is None,
        libvirt_installed=any(shutil.which(daemon) for daemon in ("libvirtd", "virtqemud")),
        session=session,
        user=user,
        may_use_libvirt=probe.may_use_system_libvirt(),
        systemd=probe.has_systemd(),
        os_release=probe.os_release(),
        emulator=emulator,
        kvm=probe.probe_kvm(emulator) if emulator else probe.KvmProbe(False, "QEMU is not installed"),
        virtiofsd=virtiofsd,
        virtiofsd_executable=virtiofsd is not None and os.access(virtiofsd.path, os.X_OK),
        broken_descriptors=[str(file) for file in probe.broken_descriptors(descriptors)],
        memfd=probe.supports_memfd(),
        apparmor=probe.apparmor_confines_libvirt(),
        firmware=probe.find_firmware(probe.descriptor_dirs("firmware", session)),
        swtpm=probe.has_swtpm(),
        subordinate_ids=probe.has_subordinate_ids(user),
    )
