# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of /etc/fstab that the collection adds and removes; all others stay byte for byte."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from ..._errors import HostError
from ..._mounts import escape, unescape
from .. import lock

FSTAB = Path("/etc/fstab")
# A source that does not exist must not keep the host from booting, hence nofail. With nofail nothing waits for the
# mount, so order it before libvirt explicitly: otherwise an autostarted guest would get the empty, writable directory.
_OPTIONS = b"bind,ro,nofail,x-systemd.before=libvirtd.service,x-systemd.before=virtqemud.service"


def targets() -> set[str]:
    """The mount points that fstab names."""
    return {target for line in _lines() if (target := _target(line)) is not None}


def add_read_only_bind(source: str, target: str) -> None:
    """Have ``source`` mounted read-only at ``target`` after a reboot; no change where fstab names the target."""
    with lock.exclusive("fstab"):
        lines = _lines()
        if target in map(_target, lines):
            return
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n"
        _write([*lines, b"%b %b none %b 0 0\n" % (escape(source), escape(target), _OPTIONS)])


def remove(target: str) -> None:
    """Remove the lines of a mount point."""
    with lock.exclusive("fstab"):
        _write([line for line in _lines() if _target(line) != target])


def _lines() -> list[bytes]:
    """The lines with their ends; only a newline ends a line, so splitlines() will not do."""
    return re.findall(rb"[^\n]*\n|[^\n]+$", FSTAB.read_bytes()) if FSTAB.exists() else []


def _target(line: bytes) -> str | None:
    fields = re.findall(rb"[^ \t\n]+", line)
    return unescape(fields[1]) if len(fields) > 1 and not fields[0].startswith(b"#") else None


def _write(lines: list[bytes]) -> None:
    """Replace fstab in one step: a half-written one would keep the host from booting."""
    if FSTAB.is_symlink():
        raise HostError(
            f"{FSTAB} is a link to {FSTAB.resolve()}: another tool writes it",
            fix="Upgrade to libvirt 11.0 and virtiofsd 1.13, which need no bind mount for a read-only share.",
        )
    with tempfile.NamedTemporaryFile(dir=FSTAB.parent, delete=False) as new:
        new.write(b"".join(lines))
        new.flush()
        os.fchmod(new.fileno(), 0o644)
        os.fsync(new.fileno())
    Path(new.name).replace(FSTAB)
