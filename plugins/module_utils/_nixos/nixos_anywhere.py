# SPDX-License-Identifier: GPL-3.0-or-later
"""nixos-anywhere's command line, and running it: it has no timeout of its own, and its output may hold secrets."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .. import _commands
from .._errors import HostError, WaitTimeout
from .._untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .ssh import Target

_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_LINE_LIMIT = 65536
_LOG_LIMIT = 64 * 2**20


def arguments(target: Target, options: dict[str, Any]) -> list[str]:
    """The command line after the program's name. Options that are not set are not passed."""
    return [
        *_system(options),
        *("--target-host", f"{target.user}@{target.address}", "--ssh-port", str(target.port)),
        *_pair("-i", target.ssh_key),
        *(["--env-password"] if options.get("password") else []),
        *_pair("--phases", ",".join(options.get("phases") or ())),
        *_pair("--kexec", options.get("kexec")),
        *_pair("--post-kexec-ssh-port", options.get("post_kexec_ssh_port")),
        *_pair("--build-on", options.get("build_on")),
        *_hardware(options.get("hardware_config")),
        *_pair("--extra-files", options.get("extra_files")),
        *_keys(options.get("disk_encryption_keys") or ()),
        *(["--copy-host-keys"] if options.get("copy_host_keys") else []),
        *(options.get("extra_arguments") or ()),
    ]


def _pair(name: str, value: str | int | None) -> list[str]:
    return [name, str(value)] if value else []


def _system(options: dict[str, Any]) -> list[str]:
    if options.get("flake"):
        return ["--flake", options["flake"]]
    return ["--store-paths", options["disko_script"], options["toplevel"]]


def _hardware(config: dict[str, str] | None) -> list[str]:
    return ["--generate-hardware-config", config["backend"], config["path"]] if config else []


def _keys(keys: Sequence[dict[str, str]]) -> list[str]:
    return [part for key in keys for part in ("--disk-encryption-keys", key["remote"], key["local"])]


class Log:
    """A file that gets output line by line as it comes, without the secrets; keeps the last lines."""

    def __init__(self, file: IO[str], secrets: Sequence[str]) -> None:
        self._file = file
        self._secrets = secrets
        self._open_line = b""
        self._written = 0
        self.tail: list[str] = []

    def receive(self, _stream: str, data: bytes) -> None:
        *lines, self._open_line = (self._open_line + data).split(b"\n")
        for line in lines:
            self._write(line)
        if len(self._open_line) > _LINE_LIMIT:
            self.end()

    def end(self) -> None:
        """Write a last line that has no newline."""
        if self._open_line:
            self._write(self._open_line)
        self._open_line = b""

    def _write(self, line: bytes) -> None:
        self._written += len(line) + 1
        if self._written > _LOG_LIMIT:
            raise HostError(f"nixos-anywhere printed more than {_LOG_LIMIT} bytes")
        text = printable(line.decode(errors="replace"))
        for secret in self._secrets:
            text = text.replace(secret, "********")
        self.tail = [*self.tail[-19:], text]
        self._file.write(f"{text}\n")


def run(command: Sequence[str], path: Path, timeout: float, password: str | None = None) -> list[str]:
    """Run nixos-anywhere to its end and log its output; returns the last lines. Raises HostError when it fails."""
    environment = {"SSHPASS": password} if password else {}
    with _log_file(path) as file:
        log = Log(file, [password] if password else [])
        try:
            status = _commands.stream(
                command, log.receive, timeout=timeout, environment=environment, merge=True, grace=_GRACE
            )
        except _commands.CommandTimeout as error:
            log.end()
            raise WaitTimeout(
                f"nixos-anywhere did not end within {timeout:.0f} s; the end of {path}:\n{_text(log)}",
                fix=(
                    "nixos-anywhere waits indefinitely for an unreachable machine. Check that the machine is up and"
                    " accepts the ssh key, or increase timeout (role variable nixos_guest_install_timeout)."
                ),
            ) from error
        log.end()
    if status:
        raise HostError(f"nixos-anywhere failed (exit status {status}); the end of {path}:\n{_text(log)}")
    return log.tail


def _text(log: Log) -> str:
    return "\n".join(log.tail)


@contextmanager
def _log_file(path: Path) -> Iterator[IO[str]]:
    """The log, empty, readable by its owner only, and locked.

    nixos-anywhere survives a killed Ansible, and two of them would partition the same disks.
    """
    with _opened(path) as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError(
                f"another installation that writes to {path} is still running",
                fix="Wait until that installation ends, or stop it.",
            ) from error
        log.truncate(0)
        yield log


def _opened(path: Path) -> IO[str]:
    """Nothing that is opened can block."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        problem = f"log: cannot write {path}: {error.strerror}"
        raise HostError(problem, fix="Create the directory above it, or correct log.") from None
    log = os.fdopen(descriptor, "w", buffering=1)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        log.close()
        raise HostError(f"log: {path} is not a file", fix="Correct log.")
    return log
