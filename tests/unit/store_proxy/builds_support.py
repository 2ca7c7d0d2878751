# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the Nix daemon that builds for guests, and a guest that adds and builds."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy.builds import Builder, BuildLimits
from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.support import (
    DERIVATION,
    SYSTEM,
    Client,
    Daemon,
    Peer,
    Proxy,
    Value,
    encode,
)

ADD_MULTIPLE, BUILD, BUILD_DERIVATION = 44, 46, 36
SOURCE = f"fixed:r:sha256:{'0' * 52}"
TARGET = f"{DERIVATION}!*"
# What each target becomes: how it has ended, the error, how often and when, its outputs.
RESULT: list[Value] = [1, TARGET, 0, "", 1, 0, 5, 6, 1, "sha256:0!out", "{}"]


@dataclass
class StandIn(Daemon):
    """Records what is added and built."""

    jobs: int = 1
    added: list[tuple[str, str, list[str], str, bytes]] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    will_build: list[str] = field(default_factory=list)
    result: list[Value] = field(default_factory=lambda: list(RESULT))
    error: str = ""
    peers: list[Peer] = field(default_factory=list)

    def answer(self, peer: Peer) -> None:
        self.peers.append(peer)
        operation = peer.number()
        self.asked.append(operation)
        answer = self.answer_of_builder(operation, peer)
        self.before_answer(operation)
        peer.connection.sendall(encode(0x6F6C6D67) + struct.pack("<Q", 8) + b"log \xff\xfe \n")
        if self.error and operation != 19:
            peer.send(0x63787470, "Error", 0, "Error", self.error, 0, 0)
        else:
            peer.send(0x616C7473, *answer)

    def answer_of_builder(self, operation: int, peer: Peer) -> Sequence[Value]:
        if operation == 39:
            self.add(peer)
            return []
        if operation == 40:
            peer.texts()
            return [self.will_build, [], [], 0, 0]
        if operation == BUILD:
            self.built += peer.texts()
            assert peer.number() == 0
            return self.result
        assert operation == 19, f"the operation {operation} has reached the daemon for builds"
        return self.answer_to(operation, peer) or []

    def add(self, peer: Peer) -> None:
        path, deriver, _hash, references = peer.text(), peer.text(), peer.text(), peer.texts()
        registered, size, ultimate = peer.number(), peer.number(), peer.number()
        signatures, address = peer.texts(), peer.text()
        assert (deriver, registered, ultimate) == ("", 0, 0)
        assert (peer.number(), peer.number()) == (0, 0), "neither repair, nor without signatures"
        contents = b""
        while frame := peer.number():
            contents += peer.stream.read(frame)
        assert len(contents) == size
        self.added.append((path, address, signatures, " ".join(references), contents))


def information(
    path: str, size: int, address: str = SOURCE, signatures: Sequence[str] = (), deriver: str = DERIVATION
) -> bytes:
    """Of a path that the guest adds, with claims that the proxy must drop."""
    return encode(path, deriver, "0" * 64, [SYSTEM], 99, size, 1, list(signatures), address)


def framed(contents: bytes, frame: int = 50) -> bytes:
    pieces = [contents[start : start + frame] for start in range(0, len(contents), frame)]
    return b"".join(struct.pack("<Q", len(piece)) + piece for piece in pieces) + bytes(8)


def addition(*paths: bytes, repair: int = 0, without_signatures: int = 1) -> bytes:
    """As Nix's build hook sends it, which asks for no check of signatures."""
    return encode(ADD_MULTIPLE, repair, without_signatures) + framed(encode(len(paths)) + b"".join(paths))


class BuildProxy(Proxy):
    def __init__(self, directory: Path, limits: BuildLimits) -> None:
        self.builder = StandIn(directory / "builder")
        self.builder.start()
        super().__init__(directory, builder=Builder(str(self.builder.path), limits))
        self.daemon.start()

    def send(self, message: bytes) -> BuildClient:
        client = self.greeted_builds()
        client.connection.sendall(message)
        return client

    def greeted_builds(self) -> BuildClient:
        ours = self.connect()
        client = BuildClient(ours.connection)
        client.greet()
        return client


class BuildClient(Client):
    """A client that keeps what the daemon has logged before the answer."""

    log: list[bytes]

    def result(self) -> str:
        """Empty, or the error."""
        self.log = []
        while True:
            message = self.number()
            if message == 0x616C7473:
                return ""
            if message == 0x63787470:
                assert (self.text(), self.number(), self.text()) == ("Error", 0, "Error")
                text = self.text()
                assert (self.number(), self.number()) == (0, 0)
                return text
            self.read_message(message)

    def read_message(self, message: int) -> None:
        if message == 0x6F6C6D67:
            size = self.number()
            self.log.append(self.stream.read(size + -size % 8)[:size])
        elif message == 0x53545254:
            assert (self.number(), self.number(), self.number()) == (1, 4, 0)
            self.log.append(self.text().encode())
            assert (self.number(), self.number()) == (0, 0)
        elif message == 0x53544F50:
            assert self.number() == 1
        else:
            assert (message, self.number(), self.number(), self.number()) == (0x52534C54, 1, 105, 4)
            assert [self.number() for _turn in range(8)] == [0] * 8
            self.log.append(b"progress")


def hang_up(client: Client) -> None:
    client.connection.shutdown(socket.SHUT_RDWR)
