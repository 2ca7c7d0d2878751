# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount a share in the guest, and at each of its boots, through the guest's agent.

A unit of systemd is a file of its own, so no file of the guest's user is edited. On NixOS, units come
from the configuration only, so the unit lasts until the guest restarts.
"""

from __future__ import annotations

from typing import Any, TypeVar

from .._domain.model import AttachShare, Observed, Options, Plan, Start
from .._errors import HostError, InvalidInput, VirtiofsError, WaitTimeout
from .._host.agent import Ended, GuestAgent
from .._waiting import wait_until
from .mount_texts import MARK, instructions, unit_name, unit_text

E = TypeVar("E", bound=VirtiofsError)

_CHANGED, _TEMPORARY = "changed", "temporary"
_NO_SYSTEMD, _OCCUPIED, _IN_USE, _NOT_MOUNTED = 3, 4, 5, 6
_SAID = 500  # characters of what a guest says in an error

# With "check" it changes nothing, and prints the same. A unit or an entry of /etc/fstab that the guest's user has
# written is used as it is, and stays: systemd knows both.
_SCRIPT = f"""\
set -eu
export LC_ALL=C PATH="$PATH:/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"
state=$1 step=$2 unit=$3 tag=$4 text=$5
directory=/etc/systemd/system runtime=
[ -d /run/systemd/system ] || exit {_NO_SYSTEMD}
if [ -e /etc/NIXOS ]; then directory=/run/systemd/system runtime=--runtime; fi
file=$directory/$unit

status=$(systemctl show --property LoadState,ActiveState,What,Type,FragmentPath,UnitFileState -- "$unit")
content=$(cat "$file" 2>/dev/null) || content=
newline='
'
has() {{ case "$newline$1$newline" in *"$newline$2$newline"*) ;; *) return 1 ;; esac; }}
is_mounted() {{ has "$status" ActiveState=active; }}
is_of_share() {{ has "$status" "What=$tag" && has "$status" Type=virtiofs; }}
is_enabled() {{ has "$status" UnitFileState=enabled || has "$status" UnitFileState=enabled-runtime; }}
is_ours() {{ has "$content" "{MARK}" && has "$content" "What=$tag"; }}
is_of_user() {{ case $status in *FragmentPath=/*) ! is_ours ;; *) return 1 ;; esac; }}

present() {{
  if has "$status" LoadState=loaded && ! is_of_share; then exit {_OCCUPIED}; fi
  if is_of_user; then
    if is_mounted; then return; fi
  else
    if [ -n "$runtime" ]; then echo {_TEMPORARY}; fi
    if is_mounted && is_enabled && [ "$content" = "$text" ]; then return; fi
    if [ "$step" = apply ] && {{ ! is_enabled || [ "$content" != "$text" ]; }}; then
      mkdir -p "$directory"
      printf '%s\n' "$text" >"$file.new"
      mv "$file.new" "$file"
      systemctl --quiet $runtime enable -- "$unit"
    fi
  fi
  echo {_CHANGED}
  if [ "$step" = check ] || systemctl start -- "$unit"; then return; fi
  journalctl --no-pager --quiet --output cat --lines 5 --unit "$unit" >&2 || :
  systemctl reset-failed -- "$unit" || :
  exit {_NOT_MOUNTED}
}}

absent() {{
  if is_mounted && is_of_share; then
    echo {_CHANGED}
    if [ "$step" = apply ]; then systemctl stop -- "$unit" || exit {_IN_USE}; fi
  fi
  if is_ours; then
    echo {_CHANGED}
    if [ "$step" = apply ]; then
      systemctl --quiet --no-reload $runtime disable -- "$unit"
      rm -f -- "$file"
      systemctl daemon-reload
    fi
  fi
}}

"$state"
"""


def check_mountable(options: Options, observed: Observed, plan: Plan) -> None:
    """Raise InvalidInput where the guest cannot mount, or unmount, the share when the plan has been executed."""
    tag, live = options["tag"], observed.live
    is_present = options["state"] == "present"
    starts = any(isinstance(action, Start) for action in plan.actions)
    plugs = any(isinstance(action, AttachShare) for action in plan.actions)
    if observed.run_state != "running" and not (is_present and starts):
        problem = f"the domain is {observed.run_state}, so its guest cannot mount or unmount the share"
        fix = "Start the domain first (state: running of keystone.virtiofs.domain), or omit mount_point."
    elif live is not None and not live.options()["guest_agent"]:
        problem = "the running domain has no channel for a guest agent, through which the guest would mount the share"
        fix = "Set guest_agent of keystone.virtiofs.domain to true and restart the domain, or omit mount_point."
    elif live is not None and is_present and not (starts or plugs or tag in live.shares()):
        problem = f"the guest cannot mount the share before a restart: {'; '.join(plan.restart_reasons)}"
        fix = "Set restart to if_required, or omit mount_point."
    else:
        return
    raise InvalidInput(problem, fix=fix, domain=options["domain"], share=tag)


def add_to_result(result: dict[str, Any], options: Options, is_mounting: bool) -> None:
    """Add to the result of the share what has become of its mount, and how to mount by other means."""
    tag, point, is_present = options["tag"], options["mount_point"], options["state"] == "present"
    if is_present:
        result["mount"] = instructions(tag, point or f"/mnt/{tag}")
    if is_mounting:
        result["changed"] = True
        result["actions"].append("MountShare" if is_present else "UnmountShare")
        before, after = (None, point) if is_present else (point, None)
        result["diff"] = {
            "before": {**result["diff"]["before"], "mount_point": before},
            "after": {**result["diff"]["after"], "mount_point": after},
        }


class GuestMount:
    """The mount of one share in its guest."""

    def __init__(self, agent: GuestAgent, options: Options) -> None:
        self._agent = agent
        self._domain, self._tag, self._point = options["domain"], options["tag"], options["mount_point"]
        self._state, self._timeout = options["state"], options["mount_timeout"]
        self.warnings: list[str] = []

    def would_change(self) -> bool:
        """Whether the guest is not in the wanted state; changes nothing. Raises what would make a run fail."""
        return self._words(self._run(self._state, "check"))

    def unmount(self) -> None:
        self._words(self._run("absent", "apply"))

    def mount(self) -> None:
        """Mount; a share that has just been plugged in takes a moment to appear in the guest."""
        said = ""

        def mounted() -> Ended | None:
            nonlocal said
            ended = self._run("present", "apply")
            said = ended.errors
            return ended if ended.code != _NOT_MOUNTED else None

        self._words(wait_until(mounted, self._timeout, lambda: self._timed_out("mount the share", said)))

    def _run(self, state: str, step: str) -> Ended:
        wait_until(
            lambda: self._agent.answers() or None,
            self._timeout,
            lambda: self._error(
                WaitTimeout,
                f"the guest agent did not answer within {self._timeout} s",
                "Install and start qemu-guest-agent in the guest, increase mount_timeout, or omit mount_point.",
            ),
        )
        unit, text = unit_name(self._point), unit_text(self._tag, self._point)
        pid = self._agent.start(_SCRIPT, state, step, unit, self._tag, text)
        if pid is None:
            raise self._error(
                HostError,
                "the guest agent does not run commands (guest-exec)",
                "Permit guest-exec in the configuration of qemu-guest-agent in the guest, or omit mount_point.",
            )
        return wait_until(lambda: self._agent.ended(pid), self._timeout, lambda: self._timed_out("run the command"))

    def _words(self, ended: Ended) -> bool:
        """Whether the guest was, or would be, changed; raises what the script has failed with."""
        if ended.code != 0:
            raise self._failure(ended)
        words = ended.output.split()
        if _TEMPORARY in words:
            self.warnings.append(
                f"domain {self._domain}, share {self._tag}: the guest runs NixOS, so the mount ends when the guest"
                " restarts. To keep the mount, add to the guest's configuration:"
                f" {instructions(self._tag, self._point)['nixos']}"
            )
        return _CHANGED in words

    def _failure(self, ended: Ended) -> VirtiofsError:
        known = {
            _NO_SYSTEMD: ("the guest does not run systemd", "Omit mount_point, and mount the share by hand."),
            _OCCUPIED: (
                f"the guest mounts something else at {self._point}",
                "Choose another mount_point, or unmount that first and remove its entry or unit.",
            ),
            _IN_USE: (
                f"the guest did not unmount {self._point}, because it is in use",
                f"Stop the programs that use {self._point} in the guest, then run the task again.",
            ),
        }
        said = ended.errors.strip()[-_SAID:] or f"exit code {ended.code}"
        return self._error(HostError, *known.get(ended.code, (f"the guest reports: {said}", "")))

    def _timed_out(self, what: str, said: str = "") -> WaitTimeout:
        reason = f"; the guest reports: {said.strip()[-_SAID:]}" if said.strip() else ""
        return self._error(
            WaitTimeout,
            f"the guest did not {what} within {self._timeout} s{reason}",
            "Correct mount_point, or increase mount_timeout.",
        )

    def _error(self, kind: type[E], problem: str, fix: str) -> E:
        return kind(problem, fix=fix, domain=self._domain, share=self._tag)
