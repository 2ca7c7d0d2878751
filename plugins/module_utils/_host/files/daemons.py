# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtiofsd of each share of a running domain: whether it is alive, and which directory it serves.

libvirt notices the end of a daemon only at the next plug, and never that a source was replaced or mounted over.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# libvirt writes ID-NAME-ALIAS-fs.pid, with a shortened name (qemuVirtioFSCreatePidFilename).
_SYSTEM = Path("/run/libvirt/qemu")
_PROC = Path("/proc")


class Share(NamedTuple):
    """A share of a running domain: libvirt's name of the device, such as fs0, and the directory of the host."""

    alias: str
    source: str


def dead_shares(domain_id: str | None, shares: Mapping[str, Share], session: bool) -> list[str]:
    """The tags whose daemon has ended."""
    return sorted(tag for tag, share in shares.items() if _has_ended(_pid_files(domain_id, share, session)))


def stale_shares(domain_id: str | None, shares: Mapping[str, Share], session: bool) -> list[str]:
    """The tags whose daemon serves a directory that the source was, before it was replaced or mounted over."""
    return sorted(
        tag
        for tag, share in shares.items()
        if share.source and _serves_another(_pid_files(domain_id, share, session), share.source)
    )


def running_for(domain_id: str | None, shares: Iterable[Share], session: bool) -> int | None:
    """For how many seconds a running domain has run: libvirt starts its first virtiofsd just before QEMU."""
    files = [file for share in shares for file in _pid_files(domain_id, share, session)]
    try:
        return max(0, int(time.time() - min(file.stat().st_mtime for file in files)))
    except (OSError, ValueError):
        return None


def _pid_files(domain_id: str | None, share: Share, session: bool) -> list[Path]:
    """None for a daemon that libvirt does not run, and for a libvirt that names files otherwise."""
    if domain_id is None:
        return []
    directory = Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"), "libvirt/qemu/run") if session else _SYSTEM
    return list(directory.glob(f"{glob.escape(domain_id)}-*-{glob.escape(share.alias)}-fs.pid"))


def _has_ended(files: list[Path]) -> bool:
    return bool(files) and not any(map(_daemon, files))


def _daemon(file: Path) -> Path | None:
    """The directory in /proc of the virtiofsd that a file names."""
    try:
        process = _PROC / str(int(file.read_text()))
        return process if (process / "comm").read_text().startswith("virtiofsd") else None
    except (OSError, ValueError):
        return None


def _serves_another(files: list[Path], source: str) -> bool:
    """In its sandbox, a virtiofsd or its child has the served directory as its root; without one, nothing is known."""
    processes = [process for file in files if (daemon := _daemon(file)) for process in _with_children(daemon)]
    served = {_identity(process / "root") for process in processes} - {None, _identity(Path("/"))}
    return bool(served) and _identity(Path(source)) not in served


def _with_children(process: Path) -> Iterator[Path]:
    yield process
    try:
        children = (process / "task" / process.name / "children").read_text().split()
    except OSError:
        return
    yield from (_PROC / child for child in children)


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
