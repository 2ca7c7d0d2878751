# SPDX-License-Identifier: GPL-3.0-or-later
"""nixos-anywhere's command line, and running it: it has no limit of its own, and its output may hold secrets."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING, Any

from .._errors import HostError, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .ssh import Target

_GRACE = 10.0  # between asking it to end and killing it


def arguments(target: Target, options: dict[str, Any]) -> list[str]:
    """The command line after the program's name; an option that is not given is not passed."""
    return [
        *_system(options),
        *("--target-host", f"{target.user}@{target.address}", "--ssh-port", str(target.port)),
        *_pair("-i", target.ssh_key),
        *(["--env-password"] if options.get("password") else []),
        *_pair("--phases", ",".join(options.get("phases") or ())),
        *_pair("--kexec", options.get("kexec")),
        *_pair("--post-kexec-ssh-port", options.get("post_kexec_port")),
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


def _hardware(wanted: dict[str, str] | None) -> list[str]:
    return ["--generate-hardware-config", wanted["backend"], wanted["path"]] if wanted else []


def _keys(keys: Sequence[dict[str, str]]) -> list[str]:
    return [part for key in keys for part in ("--disk-encryption-keys", key["remote"], key["local"])]


def redact(line: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        line = line.replace(secret, "********")
    return line


def run(command: Sequence[str], log: Path, limit: float, password: str | None = None) -> list[str]:
    """Run it to its end, its output in the log as it comes; returns the last lines. Raises HostError when it fails."""
    environment = {**os.environ, **({"SSHPASS": password} if password else {})}
    secrets = [password] if password else []
    lines: list[str] = []
    with (
        _only_one(log),
        os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", buffering=1) as record,
    ):
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        is_late = Event()
        timer = Timer(limit, _end, [process, is_late])
        timer.start()
        for line in process.stdout or ():
            lines = [*lines[-19:], redact(line.rstrip("\n"), secrets)]
            record.write(f"{lines[-1]}\n")
        status = process.wait()
        timer.cancel()
    said = "\n".join(lines)
    if is_late.is_set():
        raise WaitTimeout(
            f"nixos-anywhere had not ended after {limit:.0f} s; the end of {log}:\n{said}",
            fix="It waits for ever for a machine that it does not reach. Is that one up, and is the key let in?",
        )
    if status:
        raise HostError(f"nixos-anywhere failed (exit status {status}); the end of {log}:\n{said}")
    return lines


@contextmanager
def _only_one(log: Path) -> Iterator[None]:
    """One outlives an Ansible that is killed, and two would partition the same disks."""
    with Path(f"{log}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError(
                f"another installation that writes to {log} is still running", fix="Wait for it, or end it."
            ) from error
        yield


def _end(process: subprocess.Popen[str], is_late: Event) -> None:
    """End it with all that it has started."""
    is_late.set()
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
