# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of /etc/fstab that the collection adds and removes; all others stay byte for byte.

NixOS writes /etc/fstab itself. There, the collection keeps a file of its own in the same form, and a service of its
Nix host module mounts at boot what the file lists.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..._domain.state_paths import STATE
from ..._errors import HostError
from ..._mounts import escape, unescape
from .. import lock
from . import writing

FSTAB = Path("/etc/fstab")
OWN_TABLE = Path(STATE, "fstab")
OWN_SERVICE = Path("/etc/systemd/system/keystone-mounts.service")
# A source that does not exist must not keep the host from booting, hence nofail. With nofail nothing waits for the
# mount, so order it before libvirt explicitly: otherwise an autostarted guest would get the empty, writable directory.
_OPTIONS = b"bind,%b,private,nofail,x-systemd.before=libvirtd.service,x-systemd.before=virtqemud.service"


def entries() -> set[tuple[str, str]]:
    """Every line's source and mount point."""
    lines = [line for file in {FSTAB, table()} for line in _lines(file)]
    return {entry for line in lines if (entry := _entry(line)) is not None}


def table() -> Path:
    """The file that the collection writes to."""
    return OWN_TABLE if FSTAB.is_symlink() else FSTAB


def add_bind(source: str, target: str, flags: str) -> None:
    """Have ``source`` mounted at ``target`` with flags after a reboot; no change where there is such a line."""
    with lock.exclusive("fstab"):
        lines = _lines(table())
        if (source, target) in map(_entry, lines):
            return
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n"
        options = _OPTIONS % flags.encode()
        _write([*lines, b"%b %b none %b 0 0\n" % (escape(source), escape(target), options)])


def remove(target: str, source: str | None = None) -> None:
    """Remove the lines of a mount point, all of them or those with a source."""

    def is_meant(line: bytes) -> bool:
        entry = _entry(line)
        return entry is not None and entry[1] == target and source in (None, entry[0])

    with lock.exclusive("fstab"):
        lines = _lines(table())
        kept = [line for line in lines if not is_meant(line)]
        if kept != lines:
            _write(kept)


def _lines(file: Path) -> list[bytes]:
    """The lines with their ends; only a newline ends a line, so splitlines() will not do."""
    return re.findall(rb"[^\n]*\n|[^\n]+$", file.read_bytes()) if file.exists() else []


def _entry(line: bytes) -> tuple[str, str] | None:
    """Source and mount point of a line."""
    fields = re.findall(rb"[^ \t\n]+", line)
    return (unescape(fields[0]), unescape(fields[1])) if len(fields) > 1 and not fields[0].startswith(b"#") else None


def _write(lines: list[bytes]) -> None:
    """Replace the table in one step: a half-written one would keep the host from booting."""
    if table() == OWN_TABLE and not OWN_SERVICE.exists():
        raise HostError(
            f"{FSTAB} is a link to {FSTAB.resolve()}: another tool writes it",
            fix="On NixOS, enable the Nix module of the role host, whose keystone-mounts.service mounts at boot what"
            " guests share. Otherwise set nosuid to false for a writable share; a read-only share needs libvirt 11.0"
            " and virtiofsd 1.13.",
        )
    writing.replace_file(table(), b"".join(lines), 0o644)
