# SPDX-License-Identifier: GPL-3.0-or-later
"""The encoding of Nix's worker protocol, read with limits of size and time.

Everything is a number of 8 bytes, little-endian, or a text: a number of bytes, the bytes, and zeros up to the next
multiple of 8. A list is a number of entries and the entries.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

NUMBER = struct.Struct("<Q")
CHUNK = 65536


class Malformed(Exception):
    """The peer does not speak the protocol, or exceeds a limit."""


class Closed(Exception):
    """The peer has closed the connection between two messages."""


class Reader:
    """What a peer sends. Each message may have so many bytes and so many seconds as ``begin`` says."""

    def __init__(self, connection: socket.socket, longest_text: int, most_entries: int) -> None:
        self.connection = connection
        self.longest_text = longest_text
        self.most_entries = most_entries
        self.received = bytearray()
        self.begin(0, 0)

    def begin(self, size: int, seconds: float) -> None:
        """The next message begins."""
        self.left = size
        self.deadline = time.monotonic() + seconds

    def number(self) -> int:
        return int(NUMBER.unpack(self.take(NUMBER.size))[0])

    def flag(self) -> bool:
        return self.number() != 0

    def text(self) -> str:
        size = self.number()
        if size > self.longest_text:
            raise Malformed(f"a text of {size} bytes")
        padded = self.take(size + -size % 8)
        if any(padded[size:]):
            raise Malformed("a text that is not followed by zeros")
        try:
            return padded[:size].decode()
        except UnicodeDecodeError:
            raise Malformed("a text that is not UTF-8") from None

    def many(self, read_entry: Callable[[], T]) -> list[T]:
        count = self.number()
        if count > self.most_entries:
            raise Malformed(f"a list of {count} entries")
        return [read_entry() for _ in range(count)]

    def texts(self) -> list[str]:
        return self.many(self.text)

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise Malformed("a message that is too long")
        while len(self.received) < size:
            self.receive()
        taken = bytes(self.received[:size])
        del self.received[:size]
        self.left -= size
        return taken

    def receive(self) -> None:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise Malformed("a message that takes too long")
        self.connection.settimeout(seconds)
        try:
            received = self.connection.recv(CHUNK)
        except socket.timeout:
            raise Malformed("a message that takes too long") from None
        if not received:
            raise Malformed("the end in the middle of a message") if self.received else Closed
        self.received += received


def number(value: int) -> bytes:
    return NUMBER.pack(value)


def text(value: str) -> bytes:
    encoded = value.encode()
    return NUMBER.pack(len(encoded)) + encoded + bytes(-len(encoded) % 8)


def texts(values: Iterable[str]) -> bytes:
    encoded = [text(value) for value in values]
    return NUMBER.pack(len(encoded)) + b"".join(encoded)
