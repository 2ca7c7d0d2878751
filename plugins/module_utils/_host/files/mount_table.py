# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the mounts that the program keystone-mounts makes at boot: source, mount point and flags of each.

Not /etc/fstab: systemd and mount(8) follow symbolic links, which users of the host may put in the way of a mount.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..._domain.state_paths import STATE
from ..._errors import HostError
from ..._mounts import escape, unescape
from .. import lock
from . import writing

TABLE = Path(STATE, "mounts")
PROGRAM = Path("/usr/local/sbin/keystone-mounts")


def entries() -> set[tuple[str, str]]:
    """Every line's source and mount point."""
    return set(map(_entry, _lines()))


def require_program() -> None:
    """Raise HostError on a host that would not make the mounts at boot."""
    if not PROGRAM.exists():
        raise HostError(
            f"{PROGRAM} is not installed, so the host would lose the mount of the source at its next boot",
            fix="Run the role keystone.virtiofs.host on the host. Otherwise set nosuid to false for a writable share; a"
            " read-only share then needs libvirt 11.0 and virtiofsd 1.13.",
        )


def add(source: str, target: str, flags: str) -> None:
    """Have ``source`` mounted at ``target`` with flags after a reboot; no change where there is such a line."""
    with lock.exclusive("mounts"):
        lines = _lines()
        if (source, target) not in map(_entry, lines):
            _write([*lines, b"%b %b %b\n" % (escape(source), escape(target), flags.encode())])


def remove(target: str) -> None:
    """Remove the line of a mount point."""
    with lock.exclusive("mounts"):
        lines = _lines()
        kept = [line for line in lines if _entry(line)[1] != target]
        if kept != lines:
            _write(kept)


def _lines() -> list[bytes]:
    """The lines with their ends; only a newline ends a line, so splitlines() will not do."""
    return re.findall(rb"[^\n]*\n", TABLE.read_bytes()) if TABLE.exists() else []


def _entry(line: bytes) -> tuple[str, str]:
    """Source and mount point of a line."""
    source, target, _flags = line.split(b" ")
    return unescape(source), unescape(target)


def _write(lines: list[bytes]) -> None:
    """Replace the table in one step."""
    if lines:
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        writing.replace_file(TABLE, b"".join(lines), 0o644)
    else:
        TABLE.unlink()
