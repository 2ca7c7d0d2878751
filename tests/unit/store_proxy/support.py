# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's client and a stand-in for nix-daemon, both written apart from the proxy's own encoding."""

from __future__ import annotations

import runpy
import socket
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy.builds import Builder
from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy.session import Guest, Limits, Session

FUZZ = Path(__file__).parents[3] / "molecule/store/files/fuzz-store-proxy"
LAST, ERROR, NEXT, START, STOP, RESULT = 0x616C7473, 0x63787470, 0x6F6C6D67, 0x53545254, 0x53544F50, 0x52534C54
VERSION = 0x123


def path(letter: str, name: str) -> str:
    return f"/nix/store/{letter * 32}-{name}"


LIBRARY, SYSTEM, SECRET, NOWHERE = path("a", "library"), path("b", "system"), path("c", "secret"), path("d", "nowhere")
DERIVATION, SECRET_DERIVATION = path("f", "system.drv"), path("g", "secret.drv")
OUTPUT = f"sha256:{'0' * 64}!out"
# Each path with its references.
REFERENCES = {
    LIBRARY: [],
    SYSTEM: [LIBRARY],
    SECRET: [SYSTEM],
    DERIVATION: [LIBRARY],
    SECRET_DERIVATION: [],
}

Value = int | str | list[str]


def encode(*values: Value) -> bytes:
    encoded = b""
    for value in values:
        if isinstance(value, int):
            encoded += struct.pack("<Q", value)
        elif isinstance(value, str):
            text = value.encode()
            encoded += struct.pack("<Q", len(text)) + text + bytes(-len(text) % 8)
        else:
            encoded += encode(len(value), *value)
    return encoded


class Peer:
    """One side of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        self.connection = connection
        self.stream = connection.makefile("rb")

    def send(self, *values: Value) -> None:
        self.connection.sendall(encode(*values))

    def number(self) -> int:
        read = self.stream.read(8)
        if len(read) < 8:
            raise EOFError
        return int(struct.unpack("<Q", read)[0])

    def text(self) -> str:
        size = self.number()
        return self.stream.read(size + -size % 8)[:size].decode()

    def texts(self) -> list[str]:
        return [self.text() for _turn in range(self.number())]

    def close(self) -> None:
        self.stream.close()
        self.connection.close()


class Client(Peer):
    """Nix in the guest."""

    def greet(self, version: int = VERSION) -> None:
        self.send(0x6E697863, version)
        assert self.number() == 0x6478696F
        assert self.number() == VERSION
        self.send(0, 0)
        if version >= VERSION:
            assert self.text() == "keystone-store-proxy"
            assert self.number() == 2, "the guest must not be trusted"
            assert self.number() == LAST

    def ask(self, operation: int, *arguments: Value) -> str:
        """Empty if there is an answer, which can then be read; otherwise the error."""
        self.send(operation, *arguments)
        return self.outcome()

    def outcome(self) -> str:
        message = self.number()
        if message == LAST:
            return ""
        assert message == ERROR
        assert (self.text(), self.number(), self.text()) == ("Error", 0, "Error")
        text = self.text()
        assert (self.number(), self.number()) == (0, 0)
        return text

    def is_closed(self) -> bool:
        return self.stream.read(1) == b""


@dataclass
class Daemon:
    """Answers like nix-daemon, from REFERENCES, and records what it is asked."""

    path: Path
    version: int = 0x126  # that of Nix 2.26
    trust: int = 2
    jobs: int = 0
    asked: list[int] = field(default_factory=list)
    rooted: list[str] = field(default_factory=list)
    valid: set[str] = field(default_factory=lambda: set(REFERENCES))
    before_answer: Callable[[int], None] = lambda operation: None

    def start(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _address = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(Peer(connection),), daemon=True).start()

    def serve(self, peer: Peer) -> None:
        try:
            assert peer.number() == 0x6E697863
            peer.send(0x6478696F, self.version)
            assert peer.number() == VERSION
            assert (peer.number(), peer.number()) == (0, 0)
            peer.send("2.26.3", self.trust, LAST)
            while True:
                self.answer(peer)
        except (EOFError, OSError):
            peer.close()

    def answer(self, peer: Peer) -> None:
        operation = peer.number()
        self.asked.append(operation)
        answer = self.answer_to(operation, peer)
        self.before_answer(operation)
        # What a daemon may log, with a path that no guest may see.
        peer.send(
            NEXT, f"looking at {SECRET}", START, 1, 3, 100, "busy", 2, 0, 7, 1, "x", 0, RESULT, 1, 101, 1, 0, 5, STOP, 1
        )
        if answer is None:
            peer.send(ERROR, "Error", 0, "Error", f"no answer about {SECRET}", 0, 1, 0, "a trace")
        else:
            peer.send(LAST, *answer)

    def answer_to(self, operation: int, peer: Peer) -> Sequence[Value] | None:
        if operation == 19:
            assert [peer.number() for _turn in range(13)] == [0, 0, 0, 0, self.jobs, 0, 0, 7, 0, 0, 1, 0, 0]
            return []
        if operation == 31:
            asked = peer.texts()
            assert peer.number() == 0, "nothing must be substituted"
            return [[one for one in asked if one in self.valid]]
        if operation == 40:
            return [[one.split("!")[0] for one in peer.texts()], [SECRET], [NOWHERE], 1, 2]
        return self.answer_about(operation, peer.text())

    def answer_about(self, operation: int, subject: str) -> Sequence[Value] | None:
        references = REFERENCES.get(subject, [])
        if operation == 11:
            self.rooted.append(subject)
        info: Sequence[Value] = [0]
        if subject in self.valid:
            info = [1, SECRET_DERIVATION if subject == LIBRARY else "", "0" * 64, references, 1, 128, 1, [], ""]
        realisation = '{"id": "%s", "outPath": "%s", "dependentRealisations": {}, "signatures": []}'
        found = [one for one in REFERENCES if one.split("/")[-1].startswith(subject)]
        derived = (
            [("out", SYSTEM), ("doc", SECRET), ("dev", "")] if subject in (DERIVATION, SECRET_DERIVATION) else None
        )
        answers: dict[int, Sequence[Value] | None] = {
            1: [int(subject in self.valid)],
            6: [[one for one, needed in REFERENCES.items() if subject in needed]],
            11: [1],
            22: [[one for _name, one in derived if one]] if derived else None,
            26: info,
            28: [[name for name, _one in derived]] if derived else None,
            29: [found[0] if found else ""],
            33: [[DERIVATION, SECRET_DERIVATION] if subject == SYSTEM else []],
            41: [len(derived), *[text for one in derived for text in one]] if derived else None,
            43: [[realisation % (subject, Path(one).name) for one in (SYSTEM, SECRET)]],
        }
        assert operation in answers, f"the operation {operation} has reached the daemon"
        return answers[operation]


class Proxy:
    """The proxy, in this process, between a client and a stand-in for the daemon."""

    def __init__(
        self,
        directory: Path,
        shown: Sequence[str] | None = None,
        limits: Limits | None = None,
        builder: Builder | None = None,
    ) -> None:
        self.daemon = Daemon(directory / "daemon")
        self.log: list[str] = []
        self.entries = directory / "shown" if shown is not None else None
        for one in shown or []:
            directory.joinpath("shown").mkdir(exist_ok=True)
            (directory / "shown" / Path(one).name).touch()
        fast = replace(limits or Limits(), new_connections_per_second=1e6)
        self.guest = Guest(str(self.daemon.path), self.entries, fast, self.log.append, builder)
        self.sessions: list[threading.Thread] = []

    def connect(self) -> Client:
        ours, theirs = socket.socketpair()
        session = threading.Thread(target=Session(self.guest, theirs).run, daemon=True)
        session.start()
        self.sessions.append(session)
        return Client(ours)

    def greeted(self, version: int = VERSION) -> Client:
        client = self.connect()
        client.greet(version)
        return client


def fuzz(guest: Guest, directory: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> int:
    """Send 1,000 malformed requests and more; returns how many sessions have ended without an exception."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "proxy"))
    listener.listen()
    ended: list[str] = []

    def serve(connection: socket.socket) -> None:
        Session(guest, connection).run()
        ended.append("without an exception")

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    monkeypatch.setattr(sys, "argv", [str(FUZZ), str(directory / "proxy"), "1000", str(seed)])
    runpy.run_path(str(FUZZ), run_name="__main__")
    listener.close()
    return len(ended)
