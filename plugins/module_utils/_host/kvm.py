# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether KVM works on this host, proven by a guest that runs with it.

A /dev/kvm that opens, creates a VM and even sets up vCPUs does not prove that KVM works: nested in some hypervisors,
QEMU then aborts, or the guest stops at the first instruction that KVM must emulate but cannot.
"""

from __future__ import annotations

import grp
import os
import platform
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .. import _commands
from .._errors import HostError

DEVICE = Path("/dev/kvm")

# The proof is a firmware of one page for x86: to 32-bit protected mode, one SSE2 instruction, which every x86-64
# processor has and KVM's emulator has not, then out of QEMU through its isa-debug-exit device.
_FIRMWARE_SIZE = 0x10000  # the least that QEMU takes; it ends at 4 GiB
_CODE = 0xFF00
_FIRMWARE_PARTS = {
    _CODE: bytes.fromhex(
        "fa"  # cli
        "2e660f0116e0ff"  # lgdt cs:[0xffe0]
        "0f20c0 0c01 0f22c0"  # cr0 |= PE
        "66ea 16ffffff 0800"  # jmp 0x08:0xffffff16, the next instruction
        "0f20e0 80cc02 0f22e0"  # cr4 |= OSFXSR
        "660fefc0"  # pxor xmm0, xmm0
        "66ba0105 b015 ee"  # out 0x501, 0x15
        "f4"  # hlt
    ),
    0xFFB0: bytes.fromhex("0000000000000000 ffff0000009acf00"),  # descriptors: none, flat 32-bit code
    0xFFE0: bytes.fromhex("0f00 b0ffffff"),  # their size - 1 and address
    0xFFF0: bytes.fromhex("e90dff"),  # where the processor begins: jmp _CODE
}
_EXIT_DEVICE = ["-device", "isa-debug-exit,iobase=0x501,iosize=1"]
_PROVEN = 0x15 << 1 | 1  # QEMU's exit status for what the firmware writes


@dataclass(frozen=True)
class KvmProbe:
    """Whether guests run with KVM, the reason when they do not, and whether they have System Management Mode too.

    Secure Boot needs that mode.
    """

    usable: bool
    reason: str = ""
    smm: bool = False


def probe_kvm(emulator: str | None, timeout: float = 5.0, device: Path = DEVICE) -> KvmProbe:
    """Run the proof with the emulator; each QEMU gets ``timeout`` seconds, where 0.1 is enough.

    On another architecture than x86_64 a device that opens has to do.
    """
    refusal = _refusal(device)
    if refusal:
        return KvmProbe(False, refusal)
    if emulator is None:
        return KvmProbe(False, "QEMU is not installed")
    if platform.machine() != "x86_64":
        return KvmProbe(True, smm=True)  # SMM exists on x86 only
    with tempfile.NamedTemporaryFile(prefix="keystone-kvm-") as firmware:
        firmware.write(_firmware())
        firmware.flush()
        if not _failure(emulator, firmware.name, "on", timeout):
            return KvmProbe(True, smm=True)
        failure = _failure(emulator, firmware.name, "off", timeout)
    return KvmProbe(not failure, failure)


def is_inaccessible_to_libvirt(device: Path = DEVICE) -> bool:
    """Whether libvirt's QEMU user cannot open the device: it is in group kvm everywhere."""
    try:
        mode = stat.S_IMODE(device.stat().st_mode)
    except OSError:
        return False
    open_to_group = mode & 0o060 == 0o060 and _group_of(device) == "kvm"
    return not open_to_group and mode & 0o006 != 0o006


def _refusal(device: Path) -> str:
    """Why KVM cannot work, as far as that can be seen without starting anything."""
    if not device.exists():
        return f"there is no {device}: no virtualization extensions, or the kvm module is not loaded"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"no permission to open {device}: it belongs to group {_group_of(device)}"
    return ""


def _group_of(path: Path) -> str:
    gid = path.stat().st_gid
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _firmware() -> bytes:
    image = bytearray(_FIRMWARE_SIZE)
    for offset, part in _FIRMWARE_PARTS.items():
        image[offset : offset + len(part)] = part
    return bytes(image)


def _failure(emulator: str, firmware: str, smm: str, timeout: float) -> str:
    """Why the firmware did not get to its end; empty when it did."""
    command = [emulator, "-nodefaults", "-no-user-config", "-display", "none", "-machine", f"q35,smm={smm}"]
    command += ["-accel", "kvm", "-cpu", "host", "-bios", firmware, *_EXIT_DEVICE]
    try:
        done = _commands.run(command, timeout=timeout)
    except _commands.CommandTimeout as error:
        return f"{emulator} with KVM did not end within {timeout:g} s: {_first_line(error.output)}"
    except HostError as error:
        return error.problem
    if done.status == _PROVEN:
        return ""
    return f"{emulator} with KVM ended with status {done.status}: {_first_line(done.message)}"


def _first_line(output: str) -> str:
    return next((line for line in output.splitlines() if line), "no message")
