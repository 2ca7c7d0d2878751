# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out over ssh which system a machine runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import VirtiofsError
from .._untrusted import store_path, uuid
from .decision import Machine
from .stage1 import needs_other_mounts

if TYPE_CHECKING:
    from .ssh import Connection

# One line for each: the machine's UUID (where its firmware has SMBIOS), what os-release says (a NixOS may have it in
# ID_LIKE alone), then where the links lead, then the registration that the kernel's command line names. The rest is the
# fstab of the booted system. One script, because a login takes an emulated guest two seconds.
_INSPECT = """\
cat /sys/class/dmi/id/product_uuid 2>/dev/null || echo
[ ! -r /etc/os-release ] || . /etc/os-release
echo "$ID $ID_LIKE"
echo "$VARIANT_ID"
for link in /run/current-system /run/booted-system /nix/var/nix/profiles/system; do
    if [ -e "$link" ]; then readlink -f "$link"; else echo; fi
done
sed 's/.*\\<regInfo=\\([^ ]*\\).*/\\1/; t; s/.*//' /proc/cmdline
"""

BOOTED_FSTAB = "cat /run/booted-system/etc/fstab 2>/dev/null || true\n"

# os-release(5) allows no other characters in an identifier.
_IDENTIFIER = re.compile(r"[a-z0-9._-]{1,64}")
_LINES = 7


def inspect(guest: Connection, toplevel: str) -> Machine:
    """The machine as it is now, also if it cannot be reached; ``toplevel`` is the requested system."""
    try:
        answer = guest.check(_INSPECT + BOOTED_FSTAB)
    except VirtiofsError as error:
        return Machine(problem=error.problem, fix=error.fix)
    machine, booted_fstab = parse(answer)
    return replace(machine, needs_restart=machine.is_nixos and needs_restart(booted_fstab, toplevel))


def needs_restart(booted_fstab: str, toplevel: str) -> bool:
    """Whether a guest gets from the system that it has booted to this one only with a restart, as far as is known."""
    try:
        new = Path(toplevel, "etc/fstab").read_text()
    except OSError:  # in check mode, the system may not be built yet
        return False
    return bool(booted_fstab.strip()) and needs_other_mounts(booted_fstab, new)


def parse(answer: str) -> tuple[Machine, str]:
    """The machine as it describes itself, and the fstab of the booted system.

    A value that has another form than it must have counts as missing.
    """
    *lines, booted_fstab = [*answer.split("\n", _LINES), *([""] * _LINES)][: _LINES + 1]
    machine_uuid, ids, variant_id, *paths = lines
    current, booted, profile, registration = map(store_path, paths)
    machine = Machine(
        reachable=True,
        os_id="nixos" if "nixos" in ids.split() else _identifier(ids.partition(" ")[0]),
        variant_id=_identifier(variant_id),
        current_system=current,
        booted_system=booted,
        profile=profile,
        registration=registration,
        uuid=uuid(machine_uuid),
    )
    return machine, booted_fstab


def _identifier(text: str) -> str:
    return text if _IDENTIFIER.fullmatch(text) else ""
