# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on a machine over ssh. Host keys are always checked, and ssh never prompts."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import _commands
from .._errors import HostError, InvalidInput
from .._untrusted import HOST_KEY_TYPES

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str"},
    "port": {"type": "int"},
    "user": {"type": "str", "default": "root"},
    "ssh_key": {"type": "path", "no_log": False},
    "host_key": {"type": "str", "no_log": False},
    "known_hosts": {"type": "path"},
}

PORT = 22

# ssh's own exit status when it did not get as far as the command.
_NOT_CONNECTED = (255,)
# And sshpass's, for a wrong password, and for a host key that is unknown or has changed.
_NOT_CONNECTED_BY_PASSWORD = (255, 5, 6, 7)
_TIMEOUT = 90.0


# Nothing in these means anything to a shell, to ssh's configuration or to known_hosts, or starts an option.
_WORDS = {
    "name": (
        re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}"),
        "letters, digits, dots, colons, dashes and underscores",
    ),
    "address": (re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,254}"), "an IP address or a host name"),
    "user": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}"), "letters, digits, dots, dashes and underscores"),
}
_HOST_KEY = re.compile(rf"((?:{'|'.join(HOST_KEY_TYPES)}) [A-Za-z0-9+/]{{1,4096}}={{0,2}})(?: [ -~]*)?")


class Unreachable(HostError):
    """The machine could not be reached over ssh."""


class OtherHostKey(Unreachable):
    """The machine that answers has another host key than the expected one."""


@dataclass(frozen=True)
class Target:
    """Where a machine's ssh server is, and by which name its host key is known."""

    name: str
    address: str
    port: int = PORT
    user: str = "root"
    ssh_key: str | None = None
    known_hosts: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, params: dict[str, Any], directory: str) -> Target:
        """The target of a module's options. ``directory`` is where a known_hosts file for ``host_key`` is written."""
        for option, (pattern, form) in _WORDS.items():
            word = params[option] or (params["name"] if option == "address" else "")
            if not pattern.fullmatch(word):
                raise InvalidInput(f"{option}: {word!r} is not of the form {form}", fix=f"Correct {option}.")
        known_hosts = params["known_hosts"]
        if params["host_key"]:
            known_hosts = f"{directory}/known_hosts"
            Path(known_hosts).write_text(f"{params['name']} {_plain_key(params['host_key'])}\n")
        return cls(
            name=params["name"],
            address=params["address"] or params["name"],
            port=params["port"] or PORT,
            user=params["user"],
            ssh_key=params["ssh_key"],
            known_hosts=known_hosts,
            password=params.get("password"),
        )

    @property
    def description(self) -> str:
        return f"{self.user}@{self.address} port {self.port}"

    def options(self) -> list[str]:
        """ssh's options; nix takes them, too."""
        options = {
            "BatchMode": "no" if self.password else "yes",
            "ConnectTimeout": "30",  # retrying early adds load to a busy guest, and sshd penalises frequent connections
            "ControlPath": "none",  # a new connection shows that the machine accepts new ones
            "HostKeyAlias": self.name,
            "LogLevel": "ERROR",
            "NumberOfPasswordPrompts": "1",
            "ServerAliveCountMax": "6",  # an emulated guest on a busy host can be silent for 15 s
            "ServerAliveInterval": "5",
            "StrictHostKeyChecking": "yes",
        }
        if self.known_hosts:
            options["UserKnownHostsFile"] = self.known_hosts
        arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        identity = ["-o", "IdentitiesOnly=yes", "-i", self.ssh_key] if self.ssh_key else []
        return [*arguments, *identity, "-p", str(self.port)]

    def command(self, script: str, *arguments: str) -> list[str]:
        """The ssh command line that runs a sh script with arguments, as root; a password is in the environment."""
        remote = ["sh", "-c", script, "sh", *arguments]
        as_root = [] if self.user == "root" else ["sudo", "-n"]
        program = ["sshpass", "-e", "ssh"] if self.password else ["ssh"]
        return [*program, *self.options(), "-l", self.user, "--", self.address, shlex.join([*as_root, *remote])]


def _plain_key(text: str) -> str:
    """A host key without its comment; raises InvalidInput for anything else."""
    match = _HOST_KEY.fullmatch(text)
    if not match:
        raise InvalidInput(f"host_key: {text!r} is not of the form TYPE KEY", fix="Correct host_key.")
    return match[1]


class Connection:
    """Runs scripts on a machine, each over a connection of its own."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def run(self, script: str, *arguments: str, stdin: str = "", timeout: float = _TIMEOUT) -> _commands.Finished:
        """The finished command, whatever its status; raises Unreachable when ssh could not start it."""
        environment = {"SSHPASS": self.target.password} if self.target.password else {}
        command = self.target.command(script, *arguments)
        try:
            done = _commands.run(command, timeout=timeout, stdin=stdin, environment=environment)
        except _commands.CommandTimeout as error:
            raise Unreachable(f"{self.target.description} did not answer within {timeout:.0f} s", fix=_FIX) from error
        if done.status in (_NOT_CONNECTED_BY_PASSWORD if self.target.password else _NOT_CONNECTED):
            raise refusal(self.target, done.stderr)
        return done

    def check(self, script: str, *arguments: str, stdin: str = "", timeout: float = _TIMEOUT) -> str:
        """What the command prints; raises HostError when it fails."""
        done = self.run(script, *arguments, stdin=stdin, timeout=timeout)
        if done.status:
            first_line = script.splitlines()[0]
            raise HostError(f"{self.target.name}: {done.message} (exit status {done.status} of {first_line})")
        return done.stdout


_FIX = (
    "Check the guest's console, and the options address and port (role variables nixos_guest_address and"
    " nixos_guest_port)."
)
_OTHER_HOST_KEY = "host key verification failed"
_FIXES = {
    _OTHER_HOST_KEY: (
        "If the machine was reinstalled, or has restarted without lasting host keys, set host_key (role variable"
        " nixos_guest_host_key) to its new key, or remove the old key from known_hosts with ssh-keygen -R. Otherwise,"
        " this may be a man-in-the-middle attack."
    ),
    "permission denied": (
        "The guest accepted none of the offered keys. Add the public key of ssh_key (role variable"
        " nixos_guest_ssh_key) to the user's authorized_keys in the guest."
    ),
}


def refusal(target: Target, message: str) -> Unreachable:
    """What ssh reported, with what to do about it."""
    lines = [line for line in message.splitlines() if line.strip()]
    known_lines = [line for line in lines if any(known in line.lower() for known in _FIXES)]
    reason = (known_lines or lines or ["the connection ended"])[-1].strip()
    fix = next((fix for known, fix in _FIXES.items() if known in reason.lower()), _FIX)
    kind = OtherHostKey if _OTHER_HOST_KEY in reason.lower() else Unreachable
    return kind(f"cannot reach {target.description} over ssh: {reason}", fix=fix)
