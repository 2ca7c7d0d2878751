# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import gateway
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.agent import GuestAgent
from ansible_collections.keystone.virtiofs.tests.unit import hostile


class Agent:
    """Answers each command with the given value; a text is the whole answer."""

    def __init__(self, **answers: Any) -> None:
        self._answers = {command.replace("_", "-"): answer for command, answer in answers.items()}

    def __call__(self, question: str) -> Any:
        answer = self._answers.get(json.loads(question)["execute"])
        return answer if isinstance(answer, str) or answer is None else json.dumps({"return": answer})


def content(data: bytes) -> dict[str, Any]:
    return {"buf-b64": base64.b64encode(data).decode(), "count": len(data), "eof": True}


def read(**answers: Any) -> str | None:
    return GuestAgent(Agent(**{"guest_file_open": 1000, **answers})).read_file("/etc/file")


def test_a_file_is_read() -> None:
    assert read(guest_file_read=content(b"text")) == "text"


@pytest.mark.parametrize(
    "answer",
    [
        *(None, 7, [], {}, {"buf-b64": 7}, {"buf-b64": "!"}, {"buf-b64": None}, content(b"\xff\xfe")),
        *hostile.TEXTS,
        "[" * 100000,
        '{"return": ' + "[" * 10000,
        json.dumps({"return": content(b"x" * 2**20)}),
    ],
    ids=hostile.label,
)
def test_a_bad_answer_is_no_file(answer: Any) -> None:
    assert read(guest_file_read=answer) is None


@pytest.mark.parametrize("handle", [None, "1000", [1000], {"handle": 1}, 1.5, *hostile.TEXTS], ids=hostile.label)
def test_a_bad_handle_is_not_used(handle: Any) -> None:
    assert read(guest_file_open=handle, guest_file_read=content(b"text")) is None


def test_no_more_than_the_limit_is_returned() -> None:
    assert read(guest_file_read=content(b"x" * 100000)) == "x" * 16384


@pytest.mark.parametrize(("answer", "answers"), [({}, True), (None, False), ("no json", False), ("{}", False)])
def test_ping(answer: Any, answers: bool) -> None:
    assert GuestAgent(Agent(guest_ping=answer)).answers() is answers


class Domain:
    """What libvirt returns for a domain whose guest made the addresses up."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    def interfaceAddresses(self, _source: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
        return {"eth0": {"hwaddr": "x", "addrs": [{"addr": text, "prefix": 24, "type": 0} for text in self._addresses]}}


@pytest.mark.parametrize(
    ("reported", "believed"),
    [
        (["192.168.100.69", "192.168.100.69\n  ProxyCommand sh -c 'id >/tmp/x'"], ["192.168.100.69"]),
        (["127.0.0.1$(id>/tmp/pwned)", "127.0.0.1", "-oX", "fe80::1%eth0;x"], []),
        (["192.168.100.69"] * 3, ["192.168.100.69"]),
        ([f"10.0.{index // 256}.{index % 256}" for index in range(1, 1000)], [f"10.0.0.{n}" for n in range(1, 17)]),
    ],
    ids=["newline", "others", "repeated", "many"],
)
def test_addresses_leave_the_gateway_only_as_addresses(reported: list[str], believed: list[str]) -> None:
    assert gateway._addresses(Domain(*reported), 0) == believed


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def test_a_script_is_asked_for_in_the_agents_words() -> None:
    asked = []

    def ask(question: str) -> str:
        asked.append(json.loads(question))
        return json.dumps({"return": {"pid": 7}})

    assert GuestAgent(ask).start("echo $1", "a b") == 7
    GuestAgent(ask).ended(7)
    arguments = {"path": "/bin/sh", "arg": ["-c", "echo $1", "sh", "a b"], "capture-output": True}
    assert asked == [
        {"execute": "guest-exec", "arguments": arguments},
        {"execute": "guest-exec-status", "arguments": {"pid": 7}},
    ]


@pytest.mark.parametrize("answer", [None, 7, [7], {}, {"pid": "7"}, {"pid": None}, *hostile.TEXTS], ids=hostile.label)
def test_a_script_without_a_process_is_not_started(answer: Any) -> None:
    assert GuestAgent(Agent(guest_exec=answer)).start("true") is None


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ({"exited": True, "exitcode": 0}, (0, "", "")),
        ({"exited": True, "exitcode": 3, "out-data": encoded(b"a"), "err-data": encoded(b"b")}, (3, "a", "b")),
        ({"exited": True, "signal": 9}, (-1, "", "")),
        ({"exited": True, "exitcode": "0", "out-data": "!", "err-data": ["b"]}, (-1, "", "")),
        ({"exited": True, "exitcode": 0, "out-data": encoded(b"\xff" + b"x" * 20000)}, (0, "\ufffd" + "x" * 16383, "")),
        *((answer, None) for answer in (None, 7, [], {}, {"exited": False}, {"exited": 1}, *hostile.TEXTS)),
    ],
    ids=hostile.label,
)
def test_how_a_script_ended(status: Any, ended: Any) -> None:
    assert GuestAgent(Agent(guest_exec_status=status)).ended(7) == ended
