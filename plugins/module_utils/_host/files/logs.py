# SPDX-License-Identifier: GPL-3.0-or-later
"""The logs that libvirt keeps of the virtiofsd processes of a domain, one for each share."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

# The end of a log that is read, in bytes; a guest can make virtiofsd write as much as it likes.
_TAIL = 65536
_LONGEST = 300
# virtiofsd in Rust writes "[TIME ERROR SOURCE] TEXT", the one in C plain lines.
_ERROR = re.compile(r"^(?!\[\S+ +(?:WARN|INFO|DEBUG)\b).*\b(ERROR|error|Error|Failed|failed|fatal)\b")
_PREFIX = re.compile(r"^\[[^\]]*\]\s*")


def virtiofsd_logs(domain: str, session: bool) -> list[str]:
    """The paths of the logs."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    logs = Path(cache, "libvirt/qemu/log") if session else Path("/var/log/libvirt/qemu")
    # libvirt names a device fs0, fs1 ..., or as the user wants, beginning with ua-.
    return sorted(
        str(path) for name in ("fs", "ua-") for path in logs.glob(f"{glob.escape(domain)}-{name}*-virtiofsd.log")
    )


def last_error(logs: Iterable[str], since: float) -> str:
    """The last error in logs that were written to since a time (seconds since 1970), empty when there is none."""
    found = ""
    for path in logs:
        try:
            with Path(path).open("rb") as log:
                if os.fstat(log.fileno()).st_mtime < since:
                    continue
                log.seek(-min(_TAIL, os.fstat(log.fileno()).st_size), os.SEEK_END)
                lines = log.read(_TAIL).decode(errors="replace").splitlines()
        except OSError:
            continue
        errors = [line for line in lines if _ERROR.search(line)]
        if errors:
            found = f"{path}: {_PREFIX.sub('', errors[-1])[:_LONGEST]}"
    return found
