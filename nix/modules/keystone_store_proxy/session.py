# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's side: one connection of the guest, from the greeting to the end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import protocol, wire
from .builds import BUILD_OPERATIONS, Builder, Builds
from .daemon import Daemon, DaemonError, Unusable
from .protocol import CLIENT_MAGIC, DAEMON_MAGIC, NOT_TRUSTED, VERSION, Message, Refused
from .queries import ALLOWED, Queries

# Not about paths, which a guest may not be shown.
SEE_LOG = "the log of keystone-store-proxy on the host says why"


# The daemon's connection is unusable after these.
LOST = (OSError, Unusable)


@dataclass(frozen=True)
class Limits:
    """Of one guest."""

    connections: int = 64
    new_connections_per_second: float = 20
    longest_text: int = 65536  # a setting, such as a list of keys
    most_entries: int = 20_000  # paths in one query
    longest_request: int = 4 << 20
    request_seconds: float = 30
    # A build of the guest keeps its connection, and with it the roots, until it has registered its outputs.
    idle_seconds: float = 7 * 24 * 3600


class Guest:
    """What the sessions of a guest share: its limits, and its one turn at the daemon.

    Only one request at a time reaches the daemon, so that a guest keeps at most one of the daemon's processes busy.
    """

    def __init__(
        self,
        daemon: str,
        shown: Path | None,
        limits: Limits,
        log: Callable[[str], None],
        builder: Builder | None = None,
    ) -> None:
        self.daemon = daemon
        self.shown = shown
        self.limits = limits
        self.log = log
        self.builder = builder
        self.may = "guests only read and build" if builder else "guests only read the host's store"
        self.turn = threading.Lock()
        self.next_connection = 0.0

    def connect(self) -> Daemon:
        self.await_connection()
        return Daemon(self.daemon, self.limits.request_seconds)

    def await_connection(self) -> None:
        """For each connection the daemon starts a process; a guest that opens many has to wait."""
        time.sleep(max(0.0, self.next_connection - time.monotonic()))
        self.next_connection = time.monotonic() + 1 / self.limits.new_connections_per_second


class Session:
    def __init__(self, guest: Guest, connection: socket.socket) -> None:
        self.guest = guest
        self.limits = guest.limits
        self.connection = connection
        self.queries: Queries | None = None
        self.builds: Builds | None = None
        self.request = wire.Reader(connection, self.limits.longest_text, self.limits.most_entries)

    def run(self) -> None:
        try:
            self.shake_hands()
            while True:
                self.answer()
        except wire.Closed:
            pass
        except wire.Malformed as problem:
            self.refuse(f"the guest has sent {problem}")
        except Refused as problem:
            self.refuse(str(problem))
        except OSError as problem:
            self.guest.log(f"a connection has ended: {problem}")
        finally:
            self.connection.close()
            for opened in (self.queries, self.builds):
                if opened:
                    opened.daemon.close()

    def shake_hands(self) -> None:
        self.begin_request()
        if self.request.number() != CLIENT_MAGIC:
            raise wire.Closed
        self.send(wire.number(DAEMON_MAGIC) + wire.number(VERSION))
        version = self.request.number()
        if version >> 8 != VERSION >> 8 or version < VERSION:
            raise Refused(
                f"the guest's Nix is too old: protocol {version >> 8}.{version & 0xFF}, and Nix 2.15 has 1.35"
            )
        for _turn in ("affinity", "reserved space"):  # obsolete
            self.request.number()
        self.send(wire.text("keystone-store-proxy") + wire.number(NOT_TRUSTED) + wire.number(Message.LAST))

    def answer(self) -> None:
        self.request.begin(wire.NUMBER.size, self.limits.idle_seconds)
        operation = self.request.number()
        self.begin_request()
        try:
            if self.guest.builder and operation in BUILD_OPERATIONS:
                answer = self.build(self.guest.builder, operation)
            elif operation in ALLOWED:
                answer = self.query(operation)
            else:
                raise Refused(f"the operation {protocol.title(operation)} is refused: {self.guest.may}")
        except DaemonError as problem:
            self.guest.log(f"{protocol.title(operation)}: {problem}")
            self.send(protocol.error(f"the host's Nix has no answer; {SEE_LOG}"))
        except LOST as problem:
            self.guest.log(f"{protocol.title(operation)}: cannot use the Nix daemon: {problem!r}")
            raise Refused(f"the host's Nix daemon cannot be used; {SEE_LOG}") from None
        else:
            self.send(wire.number(Message.LAST) + answer)

    def query(self, operation: int) -> bytes:
        read, query = ALLOWED[operation]
        arguments = read(self.request)
        with self.guest.turn:
            self.queries = self.queries or Queries(self.guest.connect(), self.guest.shown)
            return query(self.queries, arguments)

    def build(self, builder: Builder, operation: int) -> bytes:
        with self.guest.turn:
            self.guest.await_connection()
        self.builds = self.builds or Builds(builder, self.connection)
        return BUILD_OPERATIONS[operation](self.builds, self.request)

    def begin_request(self) -> None:
        self.request.begin(self.limits.longest_request, self.limits.request_seconds)

    def send(self, answer: bytes) -> None:
        self.connection.settimeout(self.limits.request_seconds)
        self.connection.sendall(answer)

    def refuse(self, text: str) -> None:
        """Say why, and close. The guest's further messages are read for a moment: a reset would overtake the reason."""
        self.guest.log(text)
        with suppress(OSError):
            self.send(protocol.error(text))
            self.connection.shutdown(socket.SHUT_WR)
            self.discard(time.monotonic() + 1)

    def discard(self, deadline: float) -> None:
        while (seconds := deadline - time.monotonic()) > 0:
            self.connection.settimeout(seconds)
            if not self.connection.recv(wire.CHUNK):
                return
