# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect HostFacts from libvirt and from the host itself."""

from __future__ import annotations

import os
import shutil
from urllib.parse import urlsplit

from .._errors import VirtiofsError
from . import kvm, probe
from .connection import LIBVIRT_IMPORT_ERROR, Connection
from .findings import HostFacts


def survey_host(uri: str) -> HostFacts:
    """The facts of this host, with libvirt at this URI."""
    version, error = _libvirt_version(uri)
    session = urlsplit(uri).path == "/session"
    descriptors = probe.descriptor_dirs("vhost-user", session)
    virtiofsd = probe.find_virtiofsd(descriptors)
    emulator = probe.find_emulator()
    user = probe.user_name()
    return HostFacts(
        libvirt=version,
        libvirt_error=error,
        python_binding=LIBVIRT_IMPORT_ERROR is None,
        libvirt_installed=any(shutil.which(daemon) for daemon in ("libvirtd", "virtqemud")),
        session=session,
        user=user,
        may_use_libvirt=probe.may_use_system_libvirt(),
        systemd=probe.has_systemd(),
        os_release=probe.os_release(),
        emulator=emulator,
        qemu=probe.qemu_version(emulator) if emulator else None,
        kvm=kvm.probe_kvm(emulator),
        kvm_device_inaccessible=kvm.is_inaccessible_to_libvirt(),
        virtiofsd=virtiofsd,
        virtiofsd_executable=virtiofsd is not None and os.access(virtiofsd.path, os.X_OK),
        broken_descriptors=[str(file) for file in probe.broken_descriptors(descriptors)],
        memfd=probe.supports_memfd(),
        apparmor=probe.apparmor_confines_libvirt(),
        firmware=probe.find_firmware(probe.descriptor_dirs("firmware", session)),
        swtpm=probe.has_swtpm(),
        vsock=probe.has_vsock(),
        subordinate_ids=probe.has_subordinate_ids(user),
    )


def _libvirt_version(uri: str) -> tuple[int | None, str]:
    """libvirt's version, or None and why it is unknown.

    QEMU's version is asked from QEMU: libvirt may examine its emulators again for it, which takes seconds.
    """
    if LIBVIRT_IMPORT_ERROR:
        return None, "this Python cannot import libvirt"
    try:
        with Connection(uri) as connection:
            return connection.libvirt_version(), ""
    except VirtiofsError as error:
        return None, error.problem
