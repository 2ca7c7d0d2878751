# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about an error of libvirt or QEMU. Pure.

libvirt's codes are coarse (55 is "the state does not allow it", of whatever), so its text decides where it is known.
The texts are those of libvirt 9.0 to 12 and QEMU 7.2 to 11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# virErrorNumber: https://libvirt.org/html/libvirt-virterror.html
ANY_OTHER = 0
CONNECT = {
    ANY_OTHER: "Correct uri; qemu:///system is the libvirt of the host itself.",
    38: "Is libvirtd running (systemctl start libvirtd; without systemd: service virtlogd start; service libvirtd"
    " start), is the host of uri reached, and is the user in group libvirt?",
    45: "Run as root (become: true), or add the user to group libvirt.",
}
DEFINE = {
    9: "A domain of that name or uuid exists; use another name, or remove <uuid> from the XML.",
    92: (
        "Correct the xml option where libvirt's message says (virt-xml-validate checks a file), or upgrade libvirt if"
        " it does not know the element yet."
    ),
}
OTHERS = {
    3: "The host's libvirt or QEMU is too old for this; keystone.virtiofs.host_info reports what it supports.",
    55: "The domain's state does not allow it; keystone.virtiofs.domain_info returns the state.",
    49: "Create the pool, or set pool to one that virsh pool-list --all shows.",
    67: "The domain's definition does not allow it; see libvirt's message.",
}

NETWORK = {ANY_OTHER: "Correct what libvirt's message names, then run the task again."}

# The first group of a pattern fills {0} of the fix.
_BY_TEXT: tuple[tuple[str, str], ...] = (
    (
        r"network '([^']+)' is not active",
        "Start the network: virsh net-start {0}; virsh net-autostart {0}.",
    ),
    (
        r"(?:Network not found.*'([^']+)'|no network with matching name '([^']+)')",
        "Create the network {0}, or set source of the interface to one that virsh net-list --all shows.",
    ),
    (
        r"storage pool '([^']+)' is not active",
        "Start the pool: virsh pool-start {0}; virsh pool-autostart {0}.",
    ),
    (
        r"no storage pool with matching name '([^']+)'",
        "Create the pool {0}, set pool to one that virsh pool-list --all shows, or set path instead.",
    ),
    (
        r"(?:Cannot access storage file|could not (?:open|load)(?: \w+)*) '([^']+)'.*Permission denied",
        (
            "QEMU's user must be able to search every directory above {0}. Move the file, for instance to"
            " /var/lib/libvirt/images."
        ),
    ),
    (
        r"Unable to find (?:any |'efi' )?firmware",
        (
            "Install UEFI firmware on the host (keystone.virtiofs.host_info names the package). A domain whose"
            " image has moved selects another one after firmware: bios and then firmware: uefi."
        ),
    ),
    (
        r"pflash.*Could not open '([^']+)'.*No such file",
        (
            "The UEFI image {0} has moved. Set firmware: bios and then firmware: uefi, which selects an image that the"
            " host has now; the UEFI variables stay."
        ),
    ),
    (
        r"could not (?:open|load)(?: \w+)* '([^']+)'.*No such file",
        "Restore {0}, mount the storage that it is on, or correct the option that names it.",
    ),
    (
        r"unable to map backing store for guest RAM: Cannot allocate memory",
        "Reserve huge pages on the host (sysctl vm.nr_hugepages=COUNT), or remove <hugepages> from the XML.",
    ),
    (
        r"cannot set up guest memory.*Cannot allocate memory",
        "Reduce memory, or stop other domains: the host has not enough memory left.",
    ),
    (
        r"Could not set up host forwarding rule '([^']+)'",
        "Another process listens on the port of {0}. Set host_port to a free port, or set next_free.",
    ),
    (
        r"unable to open vhost-vsock device",
        "Load the kernel module of the host (modprobe vhost_vsock), or set vsock: false.",
    ),
    (
        r"load of migration failed|operation failed: .*managed save",
        (
            "The saved state cannot be resumed, for instance because files that the guest had open are gone."
            " Discard it: virsh managedsave-remove {domain}; the next start boots the guest."
        ),
    ),
    (
        r"virtiofsd died unexpectedly|Failed to connect to '.*fs.*\.sock'|vhost_backend_init failed",
        (
            "virtiofsd has ended. Correct what the last error in its log says; keystone.virtiofs.domain_info returns"
            " the paths of the logs as virtiofsd_logs."
        ),
    ),
    (
        r"Failed to get \"?write\"? lock",
        "Another process uses the disk's image. Stop it, or use another disk.",
    ),
    (
        r"Cannot get interface MTU on '([^']+)'|Unable to add bridge ([^ ]+)",
        "Create the bridge {0} on the host, or set source of the interface to an existing one.",
    ),
    (
        r"internal error: Network is already in use by interface (\S+)",
        (
            "Set prefix (role variable vm_network_prefix) to addresses that the host does not use, or run the task"
            " again if another network was created at the same time."
        ),
    ),
    (
        r"Argument list too long|command line.*too long",
        "The command line of QEMU or of the kernel is too long. Shorten cmdline.",
    ),
)


def fix_for(code: int, message: str, by_code: Mapping[int, str], domain: str | None = None) -> str:
    """The fix for an error; empty where none is known."""
    for pattern, fix in _BY_TEXT:
        match = re.search(pattern, message, re.IGNORECASE)
        if match:
            return fix.format(next((group for group in match.groups() if group), ""), domain=domain or "DOMAIN")
    return by_code.get(code) or by_code.get(ANY_OTHER, "")
