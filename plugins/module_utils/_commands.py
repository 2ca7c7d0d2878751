# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to run a command: no shell, a limit of time and of output, nothing left running."""

from __future__ import annotations

import os
import select
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Callable, NamedTuple, cast

from ._errors import HostError

TIMEOUT = 300.0
"""Seconds that a command gets unless its caller says otherwise."""
OUTPUT_LIMIT = 4 * 2**20
"""Bytes that a command may print to each of its two streams unless its caller says otherwise."""

# A killed process may hang in the kernel; how long to wait for its end, in seconds.
_DEATH_TIMEOUT = 5.0
_CHUNK = 65536

Receiver = Callable[[str, bytes], None]
"""Gets each piece of output as it comes: the stream (stdout or stderr) and the bytes."""


class CommandTimeout(HostError):
    """A command did not end in time and was killed; ``output`` is what it had printed until then."""

    def __init__(self, problem: str, output: str = "") -> None:
        super().__init__(problem)
        self.output = output


class Finished(NamedTuple):
    """A command that has ended; its output is decoded, with U+FFFD for what is not UTF-8."""

    status: int
    stdout: str
    stderr: str

    @property
    def message(self) -> str:
        """What it printed about its failure."""
        return (self.stderr or self.stdout).strip()


def run(
    command: Sequence[str],
    *,
    timeout: float = TIMEOUT,
    output_limit: int = OUTPUT_LIMIT,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Finished:
    """Run a command to its end, whatever its status, in a directory. ``environment`` is added to this process's.

    Raises CommandTimeout after ``timeout`` seconds, and HostError when the program does not exist or prints more than
    ``output_limit`` bytes.
    """
    output = {"stdout": bytearray(), "stderr": bytearray()}

    def collect(stream_name: str, data: bytes) -> None:
        output[stream_name] += data
        if len(output[stream_name]) > output_limit:
            raise HostError(f"{_short(command)} printed more than {output_limit} bytes")

    try:
        status = stream(command, collect, timeout=timeout, stdin=stdin, environment=environment, directory=directory)
    except CommandTimeout as error:
        error.output = (output["stderr"] or output["stdout"]).decode(errors="replace")
        raise
    return Finished(status, *(text.decode(errors="replace") for text in output.values()))


def check(
    command: Sequence[str],
    *,
    timeout: float = TIMEOUT,
    output_limit: int = OUTPUT_LIMIT,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> str:
    """What a command prints to stdout; also raises HostError when it fails."""
    done = run(command, timeout=timeout, output_limit=output_limit, environment=environment, directory=directory)
    if done.status:
        raise HostError(f"{_short(command)} failed: {done.message} (exit status {done.status})")
    return done.stdout


def stream(
    command: Sequence[str],
    receive: Receiver,
    *,
    timeout: float,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    merge: bool = False,
    grace: float = 0.0,
) -> int:
    """Run a command, hand its output on as it comes, and return its exit status.

    With ``merge``, stdout is what a terminal would show: both streams in their order. After ``timeout`` seconds the
    command's process group gets SIGTERM and, ``grace`` seconds later, SIGKILL. Processes that the command leaves
    in its group get SIGKILL as well.
    """
    deadline = time.monotonic() + timeout
    process = _start(command, environment, directory, subprocess.STDOUT if merge else subprocess.PIPE)
    try:
        _exchange(process, stdin.encode(), receive, deadline)
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise CommandTimeout(f"{_short(command)} did not end within {timeout:g} s") from None
    finally:
        _end(process, grace)


def _start(
    command: Sequence[str], environment: Mapping[str, str] | None, directory: Path | None, stderr: int
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    except FileNotFoundError:
        fix = f"Install {command[0]}; the role keystone.virtiofs.host installs what a host needs."
        raise HostError(f"{command[0]} is not installed", fix=fix) from None
    except OSError as error:
        raise HostError(f"cannot run {command[0]}: {error.strerror}") from error


def _exchange(process: subprocess.Popen[bytes], stdin: bytes, receive: Receiver, deadline: float) -> None:
    """Feed stdin and read both streams until they end; raises TimeoutExpired at the deadline."""
    left = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for name, pipe in _pipes(process).items():
            selector.register(pipe, selectors.EVENT_WRITE if name == "stdin" else selectors.EVENT_READ, name)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _events in ready:
                if key.data == "stdin":
                    left = _feed(key.fd, left)
                    is_done = not left
                else:
                    piece = os.read(key.fd, _CHUNK)
                    is_done = not piece
                    if piece:
                        receive(key.data, piece)
                if is_done:
                    selector.unregister(key.fileobj)
                    cast("IO[bytes]", key.fileobj).close()


def _feed(descriptor: int, left: memoryview) -> memoryview:
    """Write as much as never blocks and return the rest; a process that has closed its stdin gets no more."""
    try:
        return left[os.write(descriptor, left[: select.PIPE_BUF]) :]
    except BrokenPipeError:
        return left[:0]


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End the command's process group, which may outlive the command itself, and close the pipes."""
    if grace and process.poll() is None:
        _signal(process, signal.SIGTERM, grace)
    _signal(process, signal.SIGKILL, _DEATH_TIMEOUT)
    for pipe in _pipes(process).values():
        pipe.close()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals, patience: float) -> None:
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, number)
        process.wait(patience)


def _pipes(process: subprocess.Popen[bytes]) -> dict[str, IO[bytes]]:
    pipes = {"stdin": process.stdin, "stdout": process.stdout, "stderr": process.stderr}
    return {name: pipe for name, pipe in pipes.items() if pipe is not None}


def _short(command: Sequence[str]) -> str:
    """The start of a command line, for messages."""
    words = shlex.join(command[:8])
    return words if len(command) <= 8 else f"{words} ..."
