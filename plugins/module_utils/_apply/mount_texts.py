# SPDX-License-Identifier: GPL-3.0-or-later
"""How a guest mounts a share: a systemd unit, and what a user would type or configure instead. Pure."""

from __future__ import annotations

import json
import os
import re
from shlex import quote

from .._domain.values import plain_path
from .._mounts import escape

MARK = "# Written by keystone.virtiofs.share"
"""The first line of a unit, by which the collection recognises its own."""

_UNIT = f"""{MARK}
[Unit]
Description=Directory of the host (virtiofs {{tag}})

[Mount]
What={{tag}}
Where={{where}}
Type=virtiofs

[Install]
WantedBy=multi-user.target"""


def unit_name(mount_point: str) -> str:
    """What ``systemd-escape --path --suffix=mount`` prints."""
    path = os.fsencode(plain_path(mount_point).strip("/"))
    escaped = re.sub(rb"^\.|[^A-Za-z0-9:_./]", lambda found: b"\\x%02x" % ord(found[0]), path)
    return escaped.replace(b"/", b"-").decode() + ".mount"


def unit_text(tag: str, mount_point: str) -> str:
    """The unit. A mount point with blanks is written as it is; only ``%`` has a meaning there."""
    return _UNIT.format(tag=tag, where=plain_path(mount_point).replace("%", "%%"))


def instructions(tag: str, mount_point: str) -> dict[str, str]:
    """The same mount as a command, as a line of /etc/fstab and as an option of NixOS."""
    command = f"mkdir -p {quote(mount_point)} && mount -t virtiofs {quote(tag)} {quote(mount_point)}"
    device, directory = (os.fsdecode(escape(text)) for text in (tag, mount_point))
    place, share = (json.dumps(text, ensure_ascii=False).replace("${", "\\${") for text in (mount_point, tag))
    return {
        "command": command,
        "fstab": f"{device} {directory} virtiofs nofail 0 0",
        "nixos": f'fileSystems.{place} = {{ device = {share}; fsType = "virtiofs"; options = [ "nofail" ]; }};',
    }
