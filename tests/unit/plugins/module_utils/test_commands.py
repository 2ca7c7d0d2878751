# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils import _commands
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_output_status_and_environment() -> None:
    done = _commands.run(sh('echo "$WORD"; echo err >&2; exit 3'), environment={"WORD": "out"})
    assert done == (3, "out\n", "err\n")


def test_a_large_stdin_comes_back() -> None:
    text = "x" * 2**20
    assert _commands.run(["cat"], stdin=text).stdout == text


def test_a_stdin_that_is_not_read_does_no_harm() -> None:
    assert _commands.run(["true"], stdin="x" * 2**20).status == 0


def test_stdin_is_empty_unless_given() -> None:
    assert _commands.run(["cat"]).stdout == ""


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert _commands.run(["printf", "a\\377b"]).stdout == "a\ufffdb"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_flood_is_cut_off(stream: str) -> None:
    with pytest.raises(HostError, match="printed more than 1000 bytes"):
        _commands.run(sh(f"exec yes >&{stream}"), output_limit=1000)


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(_commands.CommandTimeout, match=r"did not end within 0\.3 s") as caught:
        _commands.run(sh(f"sleep 600 & echo $! >{tmp_path}/pid; echo stuck; wait"), timeout=0.3)
    assert caught.value.output == "stuck\n"
    assert time.monotonic() - began < 5
    assert _is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("output", ["", " >/dev/null 2>&1"])
def test_a_child_that_outlives_its_command_is_killed(tmp_path: Path, output: str) -> None:
    """The child keeps the output of its command open until the time is up, or the command ends at once."""
    with suppress(_commands.CommandTimeout):
        _commands.run(sh(f"sleep 600{output} & echo $! >{tmp_path}/pid"), timeout=0.5)
    assert _is_gone(int((tmp_path / "pid").read_text()))


def test_a_failure_quotes_the_command_and_its_words() -> None:
    with pytest.raises(HostError, match=r"sh -c 'echo no disk >&2; exit 7' failed: no disk \(exit status 7\)"):
        _commands.check(sh("echo no disk >&2; exit 7"))


def test_a_missing_program_is_named() -> None:
    with pytest.raises(HostError, match="no-such-program is not installed") as caught:
        _commands.run(["no-such-program"])
    assert "Install no-such-program" in caught.value.fix


def test_merged_output_keeps_its_order() -> None:
    pieces: list[bytes] = []
    _commands.stream(sh("echo 1; echo 2 >&2; echo 3"), lambda _name, data: pieces.append(data), timeout=10, merge=True)
    assert b"".join(pieces) == b"1\n2\n3\n"


def _is_gone(pid: int) -> bool:
    """Also true for a zombie that the test's own init has not reaped yet."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False
