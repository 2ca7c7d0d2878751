# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch a guest to another system. The guest rolls back by itself unless it is reached afterwards."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import _commands
from .._errors import HostError, InvalidInput, WaitTimeout
from .._untrusted import printable, store_path
from .._waiting import wait_until
from .inspection import BOOTED_FSTAB
from .ssh import OtherHostKey, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ssh import Connection, Target

PROFILE = "/nix/var/nix/profiles/system"

# Exit statuses of switch-to-configuration: done, done but some units failed; and of timeout, which ended it.
DONE, UNITS_FAILED, TIMED_OUT = "0", "4", ("124", "137")
# Results written by the watchdog: system kept; boot default could not be set. Anything else means rolled back.
KEPT, UNBOOTABLE = "kept", "unbootable"

# A new path of the host appears in a guest that shares its store after a second or two.
_SHARE_TIMEOUT = 10.0
# In addition to the timeouts for activation and confirmation: rolling back, which may take a reboot.
_ROLLBACK_TIMEOUT = 300.0
# A whole system over a slow line.
_COPY_TIMEOUT = 6 * 3600.0
# The registration of a store path takes a few hundred bytes, and a system has up to 100,000 of them.
_REGISTRATION_LIMIT = 256 * 2**20

# Both programs run in the guest as a unit of their own: neither a lost connection nor the activation itself ends them.
_COMMON = """\
# watchdog PROFILE NEW OLD ACTIVATION_TIMEOUT CONFIRMATION_TIMEOUT
profile=$1 new=$2 old=$3 activation_timeout=$4 confirmation_timeout=$5
PATH=$old/sw/bin:$PATH
cd /run/keystone-virtiofs/switch && exec >log 2>&1 || exit
report() { echo "$2" >"$1.new" && mv "$1.new" "$1"; }
set_boot_default() { nix-env --profile "$profile" --set "$1" && "$1/bin/switch-to-configuration" boot; }
"""

# The boot default is the old system until the new one is confirmed, so a reboot or a power cut rolls back, too.
_WATCHDOG = (
    _COMMON
    + """\
timeout --kill-after=30 "$activation_timeout" "$new/bin/switch-to-configuration" test
status=$?
report status $status
if [ $status = 0 ] || [ $status = 4 ]; then
    while [ ! -e confirmed ] && [ "$confirmation_timeout" -gt 0 ]; do
        sleep 1
        confirmation_timeout=$((confirmation_timeout - 1))
    done
    if [ -e confirmed ]; then
        set_boot_default "$new" && report result kept && exit
        failure=unbootable
        set_boot_default "$old"
    fi
fi
"$old/bin/switch-to-configuration" test
case $? in
0 | 4) report result "${failure:-rolled-back}" ;;
*) systemctl reboot ;;
esac
"""
)

_RESTART = (
    _COMMON
    + """\
set_boot_default "$new" && exec systemctl reboot
set_boot_default "$old"
report result unbootable
"""
)

_START = """\
! systemctl --quiet is-active keystone-switch.service || { echo "another switch is running" >&2; exit 1; }
directory=/run/keystone-virtiofs/switch
rm -rf $directory && (umask 077 && mkdir -p $directory && cat >$directory/watchdog) &&
systemd-run --quiet --collect --unit=keystone-switch --service-type=exec sh $directory/watchdog "$@" &&
cat /proc/sys/kernel/random/boot_id
"""

# A connection made after the activation proves that the guest is reachable, and confirms the switch. Then the guest
# waits up to 20 s for news: in an emulated guest, a login takes as much CPU time as 20 s of waiting.
_CONFIRM_AND_WAIT = """\
if cd /run/keystone-virtiofs/switch 2>/dev/null; then
    status=$(cat status 2>/dev/null)
    case $status in 0 | 4) touch confirmed ;; esac
    seconds=0
    until [ -e result ] || [ $seconds = 20 ] || { [ -z "$status" ] && [ -e status ]; }; do
        sleep 1
        seconds=$((seconds + 1))
    done
fi
cat /proc/sys/kernel/random/boot_id
readlink -f /run/current-system
cd /run/keystone-virtiofs/switch 2>/dev/null || exit 0
echo "$(cat status 2>/dev/null)"
echo "$(cat result 2>/dev/null)"
cat log 2>/dev/null || true
"""

# The running system, the boot default (where there is no profile, the running system), whether Nix knows NEW, and the
# fstab of the booted system.
_SYSTEMS = (
    """\
readlink -f /run/current-system
if [ -e "$1" ]; then readlink -f "$1"; else readlink -f /run/current-system; fi
if nix-store --check-validity "$2" 2>/dev/null; then echo valid; else echo unknown; fi
"""
    + BOOTED_FSTAB
)

_MISSING = """\
grep -c ' virtiofs ' /proc/mounts
while read -r path; do [ -e "$path" ] || [ -L "$path" ] || echo "$path"; done
"""

# The local store, also where users must ask the daemon (storeRegistration = "overlay-store" of the Nix module).
_REGISTER = "NIX_REMOTE= nix-store --load-db"

# File system types of the store's writable layer and of Nix's state, which includes the boot default.
_STORAGE_TYPES = r"""
upper=$(sed -n 's/^[^ ]* \/nix\/store overlay .*upperdir=\([^,]*\).*/\1/p' /proc/mounts)
for path in "$upper" /nix/var/nix; do [ -z "$path" ] || stat -f -c %T "$path"; done
"""

_LOG_END = 500  # characters of the activation's output that an error quotes


class RolledBack(HostError):
    """The guest is not on the new system; ``log`` is the output of the activation."""

    def __init__(self, problem: str, log: str, fix: str) -> None:
        super().__init__(problem, fix=fix)
        self.log = log

    def as_result(self) -> dict[str, object]:
        return {**super().as_result(), "log": self.log}


@dataclass(frozen=True)
class Timeouts:
    """Seconds that the guest gives the activation, and then the confirmation."""

    activation: int
    confirmation: int


@dataclass(frozen=True)
class Provided:
    """Number of store paths that were registered in the guest's Nix database, and that were copied to the guest."""

    registered: int = 0
    copied: int = 0


@dataclass(frozen=True)
class GuestStatus:
    """The guest at one moment of a switch."""

    boot_id: str
    current_system: str
    status: str = ""  # of switch-to-configuration
    result: str = ""  # of the watchdog
    log: str = ""

    @classmethod
    def parse(cls, text: str) -> GuestStatus:
        parts = printable(text).split("\n", 4)
        if len(parts) < 2:
            raise HostError("the guest's answer is incomplete")
        return cls(*parts)

    @property
    def failed_units(self) -> str:
        return ", ".join(re.findall(r"following units failed: (.*)", self.log))


@dataclass(frozen=True)
class Systems:
    """The guest's systems, whether its Nix knows the requested one, and the fstab of the booted one."""

    current: str
    boot_default: str
    is_valid: bool
    booted_fstab: str = ""

    @classmethod
    def of(cls, guest: Connection, toplevel: str) -> Systems:
        answer = guest.check(_SYSTEMS, PROFILE, toplevel)
        current, boot_default, validity, booted_fstab = [*answer.split("\n", 3), *([""] * 3)][:4]
        if not (store_path(current) and store_path(boot_default)):
            raise HostError(
                f"{guest.target.name}: the running system or the boot default is not in the guest's store",
                fix=f"Check /run/current-system and {PROFILE} in the guest.",
            )
        return cls(current, boot_default, validity == "valid", booted_fstab)

    def rollback_target(self, new: str) -> str:
        """The system to roll back to from the new one, which may be running already without being the boot default."""
        return self.boot_default if self.current == new else self.current


def provide(guest: Connection, toplevel: str) -> Provided:
    """Make a whole system valid in the guest: register it if the share shows it, otherwise copy it."""
    closure = _store("--query", "--requisites", toplevel).split()
    if _lacks_any_of(closure, guest):
        _require_lasting_store(guest, toplevel)
        _copy(guest.target, toplevel)
        return Provided(copied=len(closure))
    guest.check(_REGISTER, stdin=_store("--dump-db", *closure))
    return Provided(registered=len(closure))


def _require_lasting_store(guest: Connection, toplevel: str) -> None:
    """Refuse to copy to where a reboot removes the copy but not the boot default that needs it."""
    store, *state = guest.check(_STORAGE_TYPES).split() or [""]
    if store == "tmpfs" and state and state[0] != "tmpfs":
        raise InvalidInput(
            f"{guest.target.name}: {toplevel} is not visible in the share, and a copy in the guest would be lost at the"
            " next reboot",
            fix=(
                "Let the share show the system (vm_store_paths of the role vm), or set persistentRwStore in the guest's"
                " configuration."
            ),
        )


def _lacks_any_of(closure: Sequence[str], guest: Connection) -> bool:
    """Whether some paths do not exist in the guest, also after a share has had time to show them."""
    deadline = time.monotonic() + _SHARE_TIMEOUT
    while True:
        shares, *missing = guest.check(_MISSING, stdin="\n".join([*closure, ""])).split() or ["0"]
        if not missing or shares == "0" or time.monotonic() >= deadline:
            return bool(missing)


def activate(guest: Connection, new: str, old: str, timeouts: Timeouts) -> GuestStatus:
    """Switch the guest to the system for good; raises RolledBack if the guest has returned to the old one."""
    name = guest.target.name
    lost = WaitTimeout(
        f"{name}: no response since {new} was activated", fix=f"Check the guest's console. A restart boots {old}."
    )
    try:
        status = _run(_WATCHDOG, guest, new, old, timeouts, lost)
    except Unreachable as error:
        raise Unreachable(
            f"{name}: connection lost while activating {new} ({error.problem}). Without confirmation, the guest rolls"
            f" back to {old}",
            fix=error.fix,
        ) from None
    if status.result == KEPT:
        return status
    cause, fix = _failure(status, new, timeouts)
    raise RolledBack(f"{name}: {cause}; {_quoted(status)}", status.log, fix)


def restart(guest: Connection, new: str, old: str, timeouts: Timeouts) -> GuestStatus:
    """Make the system the boot default and restart the guest, which cannot roll back by itself then."""
    name = guest.target.name
    lost = WaitTimeout(
        f"{name}: no response since the guest was restarted into {new}",
        fix=f"Check the guest's console. Its boot loader can still boot {old}.",
    )
    status = _run(_RESTART, guest, new, old, timeouts, lost)
    if status.result == UNBOOTABLE:
        cause, fix = _failure(status, new, timeouts)
        raise RolledBack(f"{name}: {cause}; {_quoted(status)}", status.log, fix)
    if status.current_system != new:
        raise RolledBack(
            f"{name}: the guest was restarted into {new}, and runs {status.current_system}",
            status.log,
            "Check the boot loader in the system's configuration, and the kernel that the domain names, if any.",
        )
    return status


def _run(program: str, guest: Connection, new: str, old: str, timeouts: Timeouts, lost: WaitTimeout) -> GuestStatus:
    """How the program ended in the guest: with a result, or with a restart."""
    seconds = (str(timeouts.activation), str(timeouts.confirmation))
    boot_id = guest.check(_START, PROFILE, new, old, *seconds, stdin=program).strip()
    total = timeouts.activation + timeouts.confirmation + _ROLLBACK_TIMEOUT
    return wait_until(lambda: _ended(guest, boot_id), total, lambda: lost)


def _quoted(status: GuestStatus) -> str:
    return f"the end of the activation's output:\n{status.log[-_LOG_END:].strip()}"


def _ended(guest: Connection, boot_id: str) -> GuestStatus | None:
    """How the switch ended; None while it goes on, and while the guest does not answer, or only partly.

    Raises OtherHostKey: no later attempt can succeed. A guest that keeps its host keys in a tmpfs makes others when it
    restarts.
    """
    try:
        status = GuestStatus.parse(guest.check(_CONFIRM_AND_WAIT))
    except OtherHostKey:
        raise
    except HostError:  # an activation replaces what answers
        return None
    return status if status.result or status.boot_id != boot_id else None


def _failure(status: GuestStatus, new: str, timeouts: Timeouts) -> tuple[str, str]:
    """What became of the switch, and what to do."""
    program = f"{new}/bin/switch-to-configuration"
    if not status.result:
        cause = f"the guest restarted while {new} was being activated, and runs {status.current_system}"
        return cause, "Run the task again."
    if status.result == UNBOOTABLE:
        cause = f"{new} could not be made the boot default"
        fix = "Check the boot loader in the system's configuration."
    elif status.status in (DONE, UNITS_FAILED):
        cause = f"the guest was not reached within {timeouts.confirmation} s of the activation of {new}"
        fix = (
            "Check network, firewall and ssh in the system's configuration, or increase confirmation_timeout (role"
            " variable nixos_guest_confirmation_timeout)."
        )
    elif status.status in TIMED_OUT:
        cause = f"{program} did not end within {timeouts.activation} s"
        fix = "Increase activation_timeout (role variable nixos_guest_activation_timeout)."
    else:
        cause = f"{program} ended with {status.status}"
        fix = "Correct the system's configuration."
    return f"{cause}, and the guest rolled back to {status.current_system}", fix


def _copy(target: Target, toplevel: str) -> None:
    ssh_options = {"NIX_SSHOPTS": shlex.join(target.options())}
    command = ["nix", "--extra-experimental-features", "nix-command", "copy", "--no-check-sigs"]
    as_root = "" if target.user == "root" else "?remote-program=sudo%20-n%20nix-store"
    store = f"ssh://{target.user}@{target.address}{as_root}"
    _commands.check([*command, "--to", store, "--", toplevel], timeout=_COPY_TIMEOUT, environment=ssh_options)


def _store(*arguments: str) -> str:
    """The output of the host's own nix-store."""
    return _commands.check(["nix-store", *arguments], output_limit=_REGISTRATION_LIMIT)
