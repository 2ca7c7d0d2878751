# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's side: a connection to nix-daemon, and the queries that the proxy makes there."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from . import wire
from .protocol import (
    CLIENT_MAGIC,
    DAEMON_MAGIC,
    ERROR_LEVEL,
    TRUSTED,
    VERSION,
    VOMIT_LEVEL,
    Message,
    Operation,
)

# Nix's own answers may be long: a path may have thousands of referrers.
LONGEST_TEXT = 1 << 20
MOST_ENTRIES = 1 << 20
LONGEST_ANSWER = 64 << 20


class DaemonError(Exception):
    """The daemon has answered a query with an error."""


class Unusable(Exception):
    """This daemon cannot be used."""


class Answers(wire.Reader):
    fault = end = Unusable


@dataclass(frozen=True)
class PathInfo:
    deriver: str
    hash: str
    references: list[str]
    registered: int
    size: int
    is_ultimate: bool
    signatures: list[str]
    content_address: str

    @classmethod
    def read(cls, reader: wire.Reader) -> PathInfo:
        return cls(
            deriver=reader.text(),
            hash=reader.text(),
            references=reader.texts(),
            registered=reader.number(),
            size=reader.number(),
            is_ultimate=reader.flag(),
            signatures=reader.texts(),
            content_address=reader.text(),
        )

    def encoded(self) -> bytes:
        return b"".join(
            [
                wire.text(self.deriver),
                wire.text(self.hash),
                wire.texts(self.references),
                wire.number(self.registered),
                wire.number(self.size),
                wire.number(self.is_ultimate),
                wire.texts(self.signatures),
                wire.text(self.content_address),
            ]
        )


@dataclass(frozen=True)
class Missing:
    will_build: list[str]
    will_substitute: list[str]
    unknown: list[str]
    download_size: int
    size: int


class Daemon:
    """A connection to the daemon. The daemon sees the user of this process, and must not trust that user."""

    jobs = 0  # nothing is built

    def __init__(self, path: str, seconds: float) -> None:
        self.seconds = seconds
        self.connection = socket.socket(socket.AF_UNIX)
        self.reader = Answers(self.connection, LONGEST_TEXT, MOST_ENTRIES)
        try:
            self.connection.settimeout(seconds)
            self.connection.connect(path)
            self.shake_hands()
            self.set_options()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.connection.close()

    def shake_hands(self) -> None:
        self.send(wire.number(CLIENT_MAGIC) + wire.number(VERSION))
        if self.reader.number() != DAEMON_MAGIC:
            raise Unusable("no Nix daemon")
        version = self.reader.number()
        if version >> 8 != VERSION >> 8 or version < VERSION:
            raise Unusable(f"too old: protocol {version >> 8}.{version & 0xFF}, and Nix 2.15 has 1.35")
        self.send(wire.number(0) * 2)  # obsolete: affinity, reserved space
        self.reader.text()  # the version of Nix
        if self.reader.number() == TRUSTED:
            raise Unusable("it trusts the user of the proxy; remove this user from trusted-users in nix.conf")
        self.await_answer()

    def set_options(self) -> None:
        """Nothing is asked of a binary cache."""
        keep_failed = keep_going = fall_back = silent_seconds = use_hook = log_type = trace = 0
        cores, substitute, overrides = 1, 0, 0
        values = [keep_failed, keep_going, fall_back, ERROR_LEVEL, self.jobs, silent_seconds, use_hook, VOMIT_LEVEL]
        values += [log_type, trace, cores, substitute, overrides]
        self.ask(Operation.SET_OPTIONS, b"".join(map(wire.number, values)))

    def is_valid_path(self, path: str) -> bool:
        return self.ask(Operation.IS_VALID_PATH, wire.text(path)).flag()

    def valid_paths(self, paths: list[str]) -> list[str]:
        substitute = wire.number(0)
        return self.ask(Operation.QUERY_VALID_PATHS, wire.texts(paths) + substitute).texts()

    def path_info(self, path: str) -> PathInfo | None:
        answer = self.ask(Operation.QUERY_PATH_INFO, wire.text(path))
        return PathInfo.read(answer) if answer.flag() else None

    def path_from_hash_part(self, part: str) -> str:
        return self.ask(Operation.QUERY_PATH_FROM_HASH_PART, wire.text(part)).text()

    def texts_of(self, operation: Operation, path: str) -> list[str]:
        return self.ask(operation, wire.text(path)).texts()

    def output_map(self, path: str) -> list[tuple[str, str]]:
        answer = self.ask(Operation.QUERY_DERIVATION_OUTPUT_MAP, wire.text(path))
        return answer.many(lambda: (answer.text(), answer.text()))

    def realisations(self, output: str) -> list[str]:
        return self.ask(Operation.QUERY_REALISATION, wire.text(output)).texts()

    def missing(self, targets: list[str]) -> Missing:
        answer = self.ask(Operation.QUERY_MISSING, wire.texts(targets))
        return Missing(answer.texts(), answer.texts(), answer.texts(), answer.number(), answer.number())

    def add_temp_root(self, path: str) -> None:
        self.ask(Operation.ADD_TEMP_ROOT, wire.text(path)).number()

    def ask(self, operation: Operation, arguments: bytes) -> wire.Reader:
        """Send a request; the answer to read begins."""
        self.send(wire.number(operation) + arguments)
        self.await_answer()
        return self.reader

    def send(self, request: bytes) -> None:
        self.connection.settimeout(self.seconds)
        self.connection.sendall(request)
        self.reader.begin(LONGEST_ANSWER, self.seconds)

    def await_answer(self) -> None:
        while True:
            self.await_message()
            message = self.reader.number()
            if message == Message.LAST:
                return
            if message == Message.ERROR:
                raise DaemonError(self.error())
            self.pass_over(message)

    def await_message(self) -> None:
        """Reading waits long enough for a query."""

    def pass_over(self, message: int) -> None:
        """Skip what the daemon logs, which may name any path of the host."""
        self.skip(message)

    def skip(self, message: int) -> None:
        if message == Message.NEXT:
            self.reader.blob()
        elif message == Message.START_ACTIVITY:
            self.numbers(3)
            self.reader.blob()
            self.reader.many(self.field)
            self.numbers(1)
        elif message == Message.STOP_ACTIVITY:
            self.numbers(1)
        elif message == Message.RESULT:
            self.numbers(2)
            self.reader.many(self.field)
        else:
            raise Unusable(f"it has sent the message {message:#x}")

    def numbers(self, count: int) -> None:
        for _turn in range(count):
            self.reader.number()

    def field(self) -> None:
        if self.reader.number() == 0:
            self.reader.number()
        else:
            self.reader.blob()

    def error(self) -> str:
        self.reader.text()
        self.reader.number()
        self.reader.text()
        text = self.reader.blob().decode(errors="replace")
        self.reader.number()
        self.reader.many(self.trace)
        return text

    def trace(self) -> None:
        self.reader.number()
        self.reader.blob()
