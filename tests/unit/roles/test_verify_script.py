# SPDX-License-Identifier: GPL-3.0-or-later
"""The script of the role verify, run by real shells, and what the filter verify_observations makes of it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.keystone.virtiofs.plugins.filter.verify_observations import observe

SCRIPTS = Path(__file__).parents[3] / "roles/verify/vars/main/scripts.yml"
SHELLS = {"dash": ["dash"], "bash": ["bash"], "posix": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
# A limit for the tests, far above what a script takes.
SECONDS = 60


def script(checks: list[dict[str, str]], limit: int) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - a shell's text
    environment.filters["quote"] = shlex.quote
    text = yaml.safe_load(SCRIPTS.read_text())["_verify_script"]
    return environment.from_string(text).render(_verify_asked=checks, verify_check_timeout=limit)


@contextmanager
def running(shell: list[str], checks: list[dict[str, str]], limit: int) -> Iterator[subprocess.Popen[str]]:
    """The script in a session of its own, of which no process survives."""
    command = [*shell, "-c", script(checks, limit)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            for stream in ("stdin", "stdout", "stderr"):
                getattr(process, stream).close()
            if members(process):
                os.killpg(process.pid, signal.SIGKILL)


def members(process: subprocess.Popen[str]) -> list[str]:
    """The states and command lines of the processes in the session of the script, without those that have ended."""
    command = ["ps", "-o", "stat=,args=", "-s", str(process.pid)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if not line.startswith("Z")]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    command = SHELLS[request.param]
    if not shutil.which(command[0]):
        pytest.skip(f"this machine has no {command[0]}")
    return command


def observations(shell: list[str], *commands: str, limit: int = SECONDS) -> list[dict[str, Any]]:
    checks = [{"id": f"check_{number}", "command": command} for number, command in enumerate(commands)]
    with running(shell, checks, limit) as process:
        output, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, errors) == (0, "")
    found = observe(checks, {"stdout": output, "rc": 0}, limit)
    assert [observation.pop("id") for observation in found] == [check["id"] for check in checks]
    return found


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo reached\n", (0, "reached", "")),
        ("true", (0, "", "")),
        ("exit 3", (3, "", "")),
        ("echo out; echo err >&2; exit 1", (1, "out", "err")),
        ("echo one\nprintf %s 'two  \"$HOME\" \\n'", (0, 'one\ntwo  "$HOME" \\n', "")),
        ("echo one; echo ' two'; echo '~' >&2; echo three >&2", (0, "one\n two", "~\nthree")),
        ("echo; echo one; echo; echo two", (0, "\none\n\ntwo", "")),
        (r"printf '\033[2J\r\n\302\233m\177'", (0, "\x1b[2J\r\n\x9bm\x7f", "")),
        (r"printf 'a\000b\377'", (0, "ab\ufffd", "")),
        ("printf '%s' '-n keystone-verify check_0 0  '", (0, "-n keystone-verify check_0 0  ", "")),
        ("cat; echo end", (0, "end", "")),
        ("sh -c 'kill -KILL $PPID'", (137, "", "")),
    ],
)
def test_a_command_is_observed(shell: list[str], command: str, expected: tuple[int, str, str]) -> None:
    first, second = observations(shell, command, "echo next")
    assert (first["rc"], first["stdout"], first["stderr"]) == expected
    assert second == {"rc": 0, "stdout": "next", "stderr": ""}


def test_a_command_with_a_mistake_stops_no_other(shell: list[str]) -> None:
    first, second = observations(shell, "if; exit'", "echo next")
    assert first["rc"] > 0
    assert first["stderr"]
    assert second["stdout"] == "next"


def test_a_long_output_is_cut(shell: list[str]) -> None:
    (found,) = observations(shell, "head -c 1000000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2")
    assert (found["rc"], found["stdout"], found["stderr"]) == (0, "x" * 262144, "y" * 262144)


def test_an_endless_command_ends_the_script(shell: list[str]) -> None:
    began = time.monotonic()
    found = observations(shell, "echo before", "echo lost; sleep 1000; echo end", "echo after", limit=1)
    assert time.monotonic() - began < 30
    assert found == [
        {"rc": 0, "stdout": "before", "stderr": ""},
        {"timedout": {"period": 1}},
        {"stdout": "not applicable: not run, because check_1 did not end"},
    ]


def test_a_stopped_process_does_not_hold_the_connection(shell: list[str]) -> None:
    """Like one that waits for a dead virtiofsd, it has no chance to close what it has inherited."""
    found = observations(shell, "echo before", "sh -c 'kill -STOP $PPID'", "echo after", limit=1)
    assert found[:2] == [{"rc": 0, "stdout": "before", "stderr": ""}, {"timedout": {"period": 1}}]


def test_no_process_is_left(shell: list[str]) -> None:
    with running(shell, [{"id": "a", "command": "true"}, {"id": "b", "command": "sleep 0.2"}], SECONDS) as process:
        process.communicate(timeout=SECONDS)
        assert members(process) == []


def test_a_limit_is_for_all_commands(shell: list[str]) -> None:
    found = observations(shell, *["sleep 1.5"] * 3, limit=2)
    assert found[:2] == [{"rc": 0, "stdout": "", "stderr": ""}, {"timedout": {"period": 2}}]
