# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out over ssh which system a machine runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import VirtiofsError
from .decision import Machine

if TYPE_CHECKING:
    from .ssh import Connection

# One line for each: what os-release says (a NixOS may have it in ID_LIKE alone), then where the links lead, then the
# registration that the kernel's command line names.
_INSPECT = """\
[ ! -r /etc/os-release ] || . /etc/os-release
echo "$ID $ID_LIKE"
echo "$VARIANT_ID"
for link in /run/current-system /run/booted-system /nix/var/nix/profiles/system; do
    if [ -e "$link" ]; then readlink -f "$link"; else echo; fi
done
sed 's/.*\\<regInfo=\\([^ ]*\\).*/\\1/; t; d' /proc/cmdline
"""


def inspect(guest: Connection) -> Machine:
    """The machine as it is now, also if it cannot be reached."""
    try:
        answer = guest.check(_INSPECT)
    except VirtiofsError as error:
        return Machine(problem=error.problem, fix=error.fix)
    ids, variant_id, *paths = answer.split("\n")[:6]
    current, booted, profile, registration = (path or None for path in paths)
    return Machine(
        reachable=True,
        os_id="nixos" if "nixos" in ids.split() else ids.split(" ")[0],
        variant_id=variant_id,
        current_system=current,
        booted_system=booted,
        profile=profile,
        registration=registration,
    )
