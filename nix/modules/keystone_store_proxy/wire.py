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
from typing import Protocol, TypeVar

T = TypeVar("T")

NUMBER = struct.Struct("<Q")
CHUNK = 65536


class Malformed(Exception):
    """The peer does not speak the protocol, or exceeds a limit."""


class Closed(Exception):
    """The peer has closed the connection between two messages."""


class Stream(Protocol):
    """The part of a socket that is read."""

    def settimeout(self, seconds: float, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...


class Reader:
    """What a peer sends. Each message may have so many bytes and so many seconds as ``begin`` says."""

    # Raised for what the peer must not send, and for the end between two messages.
    fault: type[Exception] = Malformed
    end: type[Exception] = Closed

    def __init__(self, connection: Stream, longest_text: int, most_entries: int) -> None:
        self.connection = connection
        self.longest_text = longest_text
        self.most_entries = most_entries
        self.received = bytearray()
        self.copied: bytearray | None = None
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
        try:
            return self.blob().decode()
        except UnicodeDecodeError:
            raise self.fault("a text that is not UTF-8") from None

    def blob(self) -> bytes:
        """A text of any bytes, such as a line of a build's log."""
        size = self.number()
        if size > self.longest_text:
            raise self.fault(f"a text of {size} bytes")
        padded = self.take(size + -size % 8)
        if any(padded[size:]):
            raise self.fault("a text that is not followed by zeros")
        return padded[:size]

    def many(self, read_entry: Callable[[], T]) -> list[T]:
        return [read_entry() for _turn in range(self.count())]

    def count(self) -> int:
        """How many entries a list has."""
        count = self.number()
        if count > self.most_entries:
            raise self.fault(f"a list of {count} entries")
        return count

    def texts(self) -> list[str]:
        return self.many(self.text)

    def copy_of(self, read: Callable[[], object]) -> bytes:
        """What ``read`` reads, as it was sent."""
        self.copied = bytearray()
        read()
        copied, self.copied = bytes(self.copied), None
        return copied

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise self.fault("a message that is too long")
        while len(self.received) < size:
            self.receive()
        taken = bytes(self.received[:size])
        del self.received[:size]
        self.left -= size
        if self.copied is not None:
            self.copied += taken
        return taken

    def receive(self) -> None:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise self.fault("a message that takes too long")
        self.connection.settimeout(seconds)
        try:
            received = self.connection.recv(CHUNK)
        except socket.timeout:
            raise self.fault("a message that takes too long") from None
        if not received:
            raise self.fault("the end in the middle of a message") if self.received else self.end("the end")
        self.received += received


class Frames:
    """The contents of frames, which can be read like a socket.

    A frame is a number of bytes and the bytes, without zeros; an empty frame is the last.
    """

    def __init__(self, reader: Reader, seconds: float) -> None:
        self.reader = reader
        self.seconds = seconds
        self.left = 0
        self.ended = False

    def settimeout(self, seconds: float, /) -> None:
        """The time of each part begins with the part."""

    def recv(self, size: int, /) -> bytes:
        self.reader.begin(NUMBER.size + CHUNK, self.seconds)
        if not self.left:
            self.left = 0 if self.ended else self.reader.number()
            self.ended = not self.left
        if self.ended:
            raise Malformed("frames that end in the middle of a message")
        taken = self.reader.take(min(self.left, size, CHUNK))
        self.left -= len(taken)
        return taken

    def finish(self) -> None:
        """Read the last frame."""
        self.reader.begin(NUMBER.size, self.seconds)
        if self.left or self.reader.number():
            raise Malformed("frames that do not end with their message")


def number(value: int) -> bytes:
    return NUMBER.pack(value)


def text(value: str) -> bytes:
    encoded = value.encode()
    return NUMBER.pack(len(encoded)) + encoded + bytes(-len(encoded) % 8)


def texts(values: Iterable[str]) -> bytes:
    encoded = [text(value) for value in values]
    return NUMBER.pack(len(encoded)) + b"".join(encoded)
