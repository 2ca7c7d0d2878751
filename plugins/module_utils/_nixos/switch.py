# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch a guest to another system, so that it goes back by itself when nobody reaches it afterwards."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import _commands
from .._errors import HostError, InvalidInput, WaitTimeout
from .._waiting import wait_until
from .ssh import Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ssh import Connection, Target

PROFILE = "/nix/var/nix/profiles/system"

# switch-to-configuration's words for "done" and "done, but some units failed".
DONE, UNITS_FAILED = "0", "4"
# The watchdog's words for a system that stays, and for one that cannot be booted next. (Any other end is "back".)
KEPT, UNBOOTABLE = "kept", "unbootable"

# A host's new path shows in a guest that shares its store after a second or two.
_SHARE_LIMIT = 10.0
# Besides the limits for activation and confirmation: going back, which may take a reboot.
_GOING_BACK_LIMIT = 300.0
# A whole system over a slow line.
_COPY_TIMEOUT = 6 * 3600.0
# The registration of a store path takes a few hundred bytes, and a system has up to 100,000 of them.
_REGISTRATION_LIMIT = 256 * 2**20

# Runs in the guest as a unit of its own: neither a lost connection nor the activation itself ends it. The boot loader
# has the old system until the new one is confirmed, so a reboot or a power cut goes back, too.
_WATCHDOG = """\
# watchdog PROFILE NEW OLD ACTIVATION_LIMIT CONFIRMATION_LIMIT
profile=$1 new=$2 old=$3 activation_limit=$4 confirmation_limit=$5
PATH=$old/sw/bin:$PATH
cd /run/keystone-virtiofs/switch && exec >log 2>&1 || exit
tell() { echo "$2" >"$1.new" && mv "$1.new" "$1"; }
boot_next() { nix-env --profile "$profile" --set "$1" && "$1/bin/switch-to-configuration" boot; }

timeout --kill-after=30 "$activation_limit" "$new/bin/switch-to-configuration" test
status=$?
tell status $status
if [ $status = 0 ] || [ $status = 4 ]; then
    while [ ! -e confirmed ] && [ "$confirmation_limit" -gt 0 ]; do
        sleep 1
        confirmation_limit=$((confirmation_limit - 1))
    done
    if [ -e confirmed ]; then
        boot_next "$new" && tell result kept && exit
        why=unbootable
        boot_next "$old"
    fi
fi
"$old/bin/switch-to-configuration" test
case $? in
0 | 4) tell result "${why:-back}" ;;
*) systemctl reboot ;;
esac
"""

_START = """\
! systemctl --quiet is-active keystone-switch.service || { echo "another switch is under way" >&2; exit 1; }
directory=/run/keystone-virtiofs/switch
rm -rf $directory && (umask 077 && mkdir -p $directory && cat >$directory/watchdog) &&
systemd-run --quiet --collect --unit=keystone-switch --service-type=exec sh $directory/watchdog "$@" &&
cat /proc/sys/kernel/random/boot_id
"""

# Who gets as far as this over a new connection has shown that the guest is reached.
_LOOK = """\
cat /proc/sys/kernel/random/boot_id
readlink -f /run/current-system
cd /run/keystone-virtiofs/switch 2>/dev/null || exit 0
status=$(cat status 2>/dev/null)
case $status in 0 | 4) touch confirmed ;; esac
echo "$status"
echo "$(cat result 2>/dev/null)"
cat log 2>/dev/null || true
"""

# The system that runs, the one that is booted next (what runs, where there is no profile), and whether Nix knows NEW.
_SYSTEMS = """\
readlink -f /run/current-system
if [ -e "$1" ]; then readlink -f "$1"; else readlink -f /run/current-system; fi
if nix-store --check-validity "$2" 2>/dev/null; then echo valid; else echo unknown; fi
"""

_MISSING = """\
grep -c ' virtiofs ' /proc/mounts
while read -r path; do [ -e "$path" ] || [ -L "$path" ] || echo "$path"; done
"""

# The local store, also where users are to ask the daemon (storeRegistration = "overlay-store" of the Nix module).
_REGISTER = "NIX_REMOTE= nix-store --load-db"

# Whether what is written to the store is gone after a restart while what is booted next is not.
_FORGETS = r"""
upper=$(sed -n 's/^[^ ]* \/nix\/store overlay .*upperdir=\([^,]*\).*/\1/p' /proc/mounts)
for path in "$upper" /nix/var/nix; do [ -z "$path" ] || stat -f -c %T "$path"; done
"""


class Abandoned(HostError):
    """The guest is not on the new system; ``log`` is what the activation said."""

    def __init__(self, problem: str, log: str, fix: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.log = log

    def as_result(self) -> dict[str, object]:
        return {**super().as_result(), "log": self.log}


@dataclass(frozen=True)
class Provided:
    """How many store paths the guest was told of, and how many went over the wire."""

    registered: int = 0
    copied: int = 0


@dataclass(frozen=True)
class Seen:
    """One look at the guest during a switch."""

    boot_id: str
    current_system: str
    status: str = ""  # of switch-to-configuration
    result: str = ""  # of the watchdog
    log: str = ""

    @classmethod
    def parse(cls, text: str) -> Seen:
        return cls(*text.split("\n", 4))

    @property
    def failed_units(self) -> str:
        return ", ".join(re.findall(r"following units failed: (.*)", self.log))


@dataclass(frozen=True)
class Systems:
    """The guest's systems, and whether its Nix knows the wanted one."""

    current: str
    booted_next: str
    is_valid: bool

    @classmethod
    def of(cls, guest: Connection, toplevel: str) -> Systems:
        current, booted_next, validity = guest.check(_SYSTEMS, PROFILE, toplevel).splitlines()
        return cls(current, booted_next, validity == "valid")

    def way_back(self, new: str) -> str:
        """What to go back to from the new one, also where that runs already and is only not booted next."""
        return self.booted_next if self.current == new else self.current


def provide(guest: Connection, toplevel: str) -> Provided:
    """Make a whole system valid in the guest: what the share shows is registered, else it is copied."""
    closure = _store("--query", "--requisites", toplevel).split()
    if _misses_some_of(closure, guest):
        _require_lasting_store(guest, toplevel)
        _copy(guest.target, toplevel)
        return Provided(copied=len(closure))
    guest.check(_REGISTER, stdin=_store("--dump-db", *closure))
    return Provided(registered=len(closure))


def _require_lasting_store(guest: Connection, toplevel: str) -> None:
    store, *state = guest.check(_FORGETS).split()
    if store == "tmpfs" and state and state[0] != "tmpfs":
        raise InvalidInput(
            f"{guest.target.name}: {toplevel} is not in the share, and a copy in the guest is gone after a restart",
            fix="Let the share show it (vm_store_paths), or give the guest persistentRwStore.",
        )


def _misses_some_of(closure: Sequence[str], guest: Connection) -> bool:
    """Whether some paths are not there, also when a share has had time to show them."""
    deadline = time.monotonic() + _SHARE_LIMIT
    while True:
        shares, *missing = guest.check(_MISSING, stdin="\n".join([*closure, ""])).split()
        if not missing or shares == "0" or time.monotonic() >= deadline:
            return bool(missing)


def activate(guest: Connection, new: str, old: str, activation_limit: int, confirmation_limit: int) -> Seen:
    """Bring the guest to the system for good; raises Abandoned when it has gone back to the old one."""
    limits = (str(activation_limit), str(confirmation_limit))
    try:
        boot_id = guest.check(_START, PROFILE, new, old, *limits, stdin=_WATCHDOG).strip()
    except Unreachable as error:
        raise Unreachable(
            f"{error.problem}, as {new} was to be activated. Unconfirmed, it goes back to {old}", fix=error.fix
        ) from error

    def ended() -> Seen | None:
        seen = _look(guest)
        return seen if seen and (seen.result or seen.boot_id != boot_id) else None

    def complaint() -> WaitTimeout:
        return WaitTimeout(
            f"{guest.target.name}: nothing was heard of it since {new} was activated",
            fix=f"Look at its console. A restart boots {old}.",
        )

    seen = wait_until(ended, activation_limit + confirmation_limit + _GOING_BACK_LIMIT, complaint)
    if seen.result == KEPT:
        return seen
    raise Abandoned(
        f"{guest.target.name}: {_fate(seen, new, confirmation_limit)}", seen.log, fix=seen.log[-500:].strip()
    )


def _look(guest: Connection) -> Seen | None:
    """None while the guest does not answer, or not as a whole: an activation replaces what answers."""
    try:
        return Seen.parse(guest.check(_LOOK))
    except HostError:
        return None


def _fate(seen: Seen, new: str, confirmation_limit: int) -> str:
    if not seen.result:
        return f"it was restarted while {new} was activated, and runs {seen.current_system}"
    if seen.result == UNBOOTABLE:
        cause = f"{new} could not be made the one to boot next"
    elif seen.status in (DONE, UNITS_FAILED):
        cause = f"it was not reached within {confirmation_limit} s of the activation of {new}"
    else:
        cause = f"{new}/bin/switch-to-configuration ended with {seen.status}"
    return f"{cause}, and it went back to {seen.current_system}"


def _copy(target: Target, toplevel: str) -> None:
    ssh_options = {"NIX_SSHOPTS": shlex.join(target.options())}
    command = ["nix", "--extra-experimental-features", "nix-command", "copy", "--no-check-sigs"]
    as_root = "" if target.user == "root" else "?remote-program=sudo%20-n%20nix-store"
    to = f"ssh://{target.user}@{target.address}{as_root}"
    _commands.check([*command, "--to", to, toplevel], timeout=_COPY_TIMEOUT, environment=ssh_options)


def _store(*arguments: str) -> str:
    """What the host's own nix-store prints."""
    return _commands.check(["nix-store", *arguments], output_limit=_REGISTRATION_LIMIT)
