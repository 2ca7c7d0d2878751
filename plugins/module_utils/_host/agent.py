# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agent: a program in the guest, so every answer of it is hostile until it is parsed."""

from __future__ import annotations

import base64
import json
from typing import Any, Callable, NamedTuple

AGENT_TIMEOUT = 5
"""Seconds that a guest agent gets for an answer."""
# Bytes of a file that is read, and characters of any answer.
_FILE_LIMIT = 16384
_ANSWER_LIMIT = 2**20


class Ended(NamedTuple):
    """How a program in the guest ended. The texts have at most 16 KiB; ``code`` is -1 for a program that was killed."""

    code: int
    output: str
    errors: str


class GuestAgent:
    """The agent of one guest. ``ask`` sends it a question and returns the answer as text, None where there is none."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        self._ask = ask

    def answers(self) -> bool:
        """The agent answers a ping; False also while it is not up."""
        return self._call("guest-ping") is not None

    def read_file(self, path: str) -> str | None:
        """The first 16 KiB of a text file of the guest; None when that is not possible."""
        handle = self._call("guest-file-open", path=path)
        if not isinstance(handle, int):
            return None
        content = self._call("guest-file-read", handle=handle, count=_FILE_LIMIT)
        self._call("guest-file-close", handle=handle)
        try:
            return base64.b64decode(content["buf-b64"], validate=True)[:_FILE_LIMIT].decode()
        except (TypeError, KeyError, ValueError):
            return None

    def start(self, script: str, *arguments: str) -> int | None:
        """Start a shell script as root in the guest; its process id, None where the agent does not run commands."""
        words = ["-c", script, "sh", *arguments]
        started = self._call("guest-exec", **{"path": "/bin/sh", "arg": words, "capture-output": True})
        pid = started.get("pid") if isinstance(started, dict) else None
        return pid if isinstance(pid, int) else None

    def ended(self, pid: int) -> Ended | None:
        """How a program that was started here ended; None while it runs, and without a proper answer."""
        status = self._call("guest-exec-status", pid=pid)
        if not isinstance(status, dict) or status.get("exited") is not True:
            return None
        code = status.get("exitcode")
        output, errors = (_text(status.get(name)) for name in ("out-data", "err-data"))
        return Ended(code if isinstance(code, int) else -1, output, errors)

    def _call(self, command: str, **arguments: Any) -> Any:
        """What a command returned, of whatever shape; None where that is not an answer of reasonable size."""
        answer = self._ask(json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})}))
        if not isinstance(answer, str) or len(answer) > _ANSWER_LIMIT:
            return None
        try:
            return json.loads(answer)["return"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


def _text(data: Any) -> str:
    """The beginning of what a program has printed; empty without a proper answer."""
    try:
        return base64.b64decode(data, validate=True)[:_FILE_LIMIT].decode(errors="replace")
    except (TypeError, ValueError):
        return ""
