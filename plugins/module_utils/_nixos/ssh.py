# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on a machine that is reached by ssh. Host keys are always checked, and nothing is ever asked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from .. import _commands
from .._errors import HostError

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str"},
    "port": {"type": "int", "default": 22},
    "user": {"type": "str", "default": "root"},
    "ssh_key": {"type": "path", "no_log": False},
    "known_hosts": {"type": "path"},
}

# ssh's own status when it did not get as far as the command.
_NOT_CONNECTED = (255,)
# And sshpass's, for a wrong password, and for a host key that is unknown or has changed.
_NOT_CONNECTED_BY_PASSWORD = (255, 5, 6, 7)
_LIMIT = 90.0


class Unreachable(HostError):
    """ssh did not get through."""


@dataclass(frozen=True)
class Target:
    """Where a machine's ssh server is, and by which name its host key is known."""

    name: str
    address: str
    port: int = 22
    user: str = "root"
    ssh_key: str | None = None
    known_hosts: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, params: dict[str, Any]) -> Target:
        """The target of a module's options."""
        values = {option: params[option] for option in ARGUMENT_SPEC}
        return cls(**{**values, "address": values["address"] or values["name"], "password": params.get("password")})

    @property
    def described(self) -> str:
        return f"{self.user}@{self.address} port {self.port}"

    def options(self) -> list[str]:
        """ssh's options; nix takes them, too."""
        options = {
            "BatchMode": "no" if self.password else "yes",
            "ConnectTimeout": "30",  # impatience is more work for a busy guest, and sshd locks out who comes too often
            "ControlPath": "none",  # a new connection shows that the machine takes new ones
            "HostKeyAlias": self.name,
            "LogLevel": "ERROR",
            "NumberOfPasswordPrompts": "1",
            "ServerAliveCountMax": "3",
            "ServerAliveInterval": "5",
            "StrictHostKeyChecking": "yes",
        }
        if self.known_hosts:
            options["UserKnownHostsFile"] = self.known_hosts
        arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        identity = ["-o", "IdentitiesOnly=yes", "-i", self.ssh_key] if self.ssh_key else []
        return [*arguments, *identity, "-p", str(self.port)]

    def command(self, script: str, *arguments: str) -> list[str]:
        """ssh's command line that runs a script of sh with arguments, as root; a password is in the environment."""
        remote = ["sh", "-c", script, "sh", *arguments]
        as_root = [] if self.user == "root" else ["sudo", "-n"]
        program = ["sshpass", "-e", "ssh"] if self.password else ["ssh"]
        return [*program, *self.options(), "-l", self.user, self.address, shlex.join([*as_root, *remote])]


class Connection:
    """Runs scripts on a machine, each over a connection of its own."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def run(self, script: str, *arguments: str, stdin: str = "", limit: float = _LIMIT) -> _commands.Finished:
        """The finished command, whatever its status; raises Unreachable when it did not come to that."""
        environment = {"SSHPASS": self.target.password} if self.target.password else {}
        command = self.target.command(script, *arguments)
        try:
            done = _commands.run(command, timeout=limit, stdin=stdin, environment=environment)
        except _commands.CommandTimeout as error:
            raise Unreachable(f"{self.target.described} did not answer within {limit:.0f} s", fix=_FIX) from error
        if done.status in (_NOT_CONNECTED_BY_PASSWORD if self.target.password else _NOT_CONNECTED):
            raise refusal(self.target, done.stderr)
        return done

    def check(self, script: str, *arguments: str, stdin: str = "", limit: float = _LIMIT) -> str:
        """What the command prints; raises HostError when it fails."""
        done = self.run(script, *arguments, stdin=stdin, limit=limit)
        if done.status:
            first_line = script.splitlines()[0]
            raise HostError(f"{self.target.name}: {done.message} (exit status {done.status} of {first_line})")
        return done.stdout


_FIX = "Look at the guest's console, and at nixos_guest_address and nixos_guest_port."
_FIXES = {
    "host key verification failed": (
        "If the machine was made anew, remove its old key with ssh-keygen -R; else somebody is in between. A key that "
        "is known beforehand goes to nixos_guest_host_key."
    ),
    "permission denied": "It takes no key that was offered. Let the public half of nixos_guest_ssh_key in.",
}


def refusal(target: Target, said: str) -> Unreachable:
    """What ssh complained of, with what to do about it."""
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if any(known in line.lower() for known in _FIXES)]
    complaint = (telling or lines or ["the connection ended"])[-1].strip()
    fix = next((fix for known, fix in _FIXES.items() if known in complaint.lower()), _FIX)
    return Unreachable(f"{target.described} is not reached by ssh: {complaint}", fix=fix)
