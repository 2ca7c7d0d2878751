# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest may add and build, if its host allows it: the same as any user without the daemon's trust.

The daemon for builds verifies everything: a path is added only if its name follows from its contents or a trusted key
has signed it, and everything else comes out of builds of this host. Nothing else reaches the daemon.
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from . import wire
from .daemon import LONGEST_ANSWER, Daemon, DaemonError, PathInfo
from .protocol import Message, Operation, Refused
from .queries import STORE, read_path, read_targets

# Two files with the same hash can be made for older algorithms.
CONTENT_ADDRESS = re.compile(r"(text:sha256|fixed:(r:)?sha(256|512)):[0-9a-z]{52,103}", re.ASCII)
# How a derivation starts whose outputs are named after the derivation. The other kinds may use the network.
OUTPUT = rb'\("[^"\\]+","/nix/store/[^"\\]+","",""\)'
ISOLATED = re.compile(rb"Derive\(\[" + OUTPUT + rb"(," + OUTPUT + rb")*\],")

NOT_ISOLATED = (
    "{0} has outputs that are named after their contents, and could use the network, so the host does not build it for "
    "guests. Build it in the guest: nix build --builders '' '{0}^*'"
)

ACTIVITY, UNKNOWN_KIND, PROGRESS, TALKATIVE = 1, 0, 105, 4


@dataclass(frozen=True)
class BuildLimits:
    """Of one guest. ``at_once`` counts requests to add or to build, and each builds one derivation after the other."""

    at_once: int
    request_seconds: float = 6 * 3600
    part_seconds: float = 30  # for each 64 KiB of what is added
    longest_information: int = 4 << 20  # about one path
    most_added: int = 8 << 30  # bytes in one request
    free_space: int = 5 << 30  # bytes that a guest leaves free in the host's store
    look_seconds: float = 5  # between looks at the guest, the time and the space


class Builder:
    """The daemon for builds, and what the connections of a guest share of it."""

    def __init__(self, path: str, limits: BuildLimits) -> None:
        self.path = path
        self.limits = limits
        self.free = threading.BoundedSemaphore(limits.at_once)


class BuildDaemon(Daemon):
    """A connection whose daemon builds. The daemon's log is passed on, and in between ``look`` is called."""

    jobs = 1

    def __init__(self, path: str, seconds: float, look: Callable[[], None], hand_on: Callable[[bytes], None]) -> None:
        self.look = look
        self.hand_on = hand_on
        super().__init__(path, seconds)

    def add(self, path: str, info: PathInfo, contents: Iterator[bytes]) -> None:
        repair = without_signatures = wire.number(0)
        about = wire.text(path) + info.encoded()
        self.send(wire.number(Operation.ADD_TO_STORE_NAR) + about + repair + without_signatures)
        for part in contents:
            self.send(wire.number(len(part)) + part)
        self.send(wire.number(0))
        self.await_answer()

    def build(self, targets: list[str]) -> bytes:
        """The results, as the daemon has sent them."""
        normally = wire.number(0)
        answer = self.ask(Operation.BUILD_PATHS_WITH_RESULTS, wire.texts(targets) + normally)
        errors: list[bytes] = []
        results = answer.copy_of(lambda: errors.extend(answer.many(self.read_error)))
        for error in filter(None, errors):  # a build hook of Nix 2.26 does not show those in the results
            self.hand_on(wire.number(Message.NEXT) + wire.text(error.decode(errors="replace")))
        return results

    def read_error(self) -> bytes:
        """Of one result."""
        self.reader.blob()  # the target
        self.numbers(1)  # how the build has ended
        error = self.reader.blob()
        self.numbers(4)  # how often and when
        self.reader.many(lambda: (self.reader.blob(), self.reader.blob()))  # outputs
        return error

    def await_message(self) -> None:
        self.look()
        while not self.reader.received and not select.select([self.connection], [], [], 1)[0]:
            self.look()
        self.reader.begin(LONGEST_ANSWER, self.seconds)

    def pass_over(self, message: int) -> None:
        self.hand_on(wire.number(message) + self.reader.copy_of(lambda: self.skip(message)))


class Builds:
    """What is added and built on one connection of the guest."""

    def __init__(self, builder: Builder, guest: socket.socket) -> None:
        self.limits = builder.limits
        self.builder = builder
        self.guest = guest
        self.begun = self.looked = time.monotonic()
        self.daemon = BuildDaemon(builder.path, self.limits.part_seconds, self.look, self.report)

    def add(self, request: wire.Reader) -> bytes:
        for _flag in ("repair", "without signatures"):  # never
            request.flag()
        frames = wire.Frames(request, self.limits.part_seconds)
        stream = wire.Reader(frames, request.longest_text, request.most_entries)
        with self.turn():
            self.begin_part(stream, self.limits.longest_information)
            left = self.limits.most_added
            for _turn in range(stream.count()):
                left = self.add_path(stream, left)
            frames.finish()
        return b""

    def add_path(self, stream: wire.Reader, left: int) -> int:
        """Returns how many bytes may follow."""
        self.begin_part(stream, self.limits.longest_information)
        path, info = read_path(stream), PathInfo.read(stream)
        if info.size > left:
            most = self.limits.most_added >> 30
            raise Refused(f"{path}: the host takes {most} GiB at once from a guest, and this is more")
        contents = self.contents(stream, info.size)
        if CONTENT_ADDRESS.fullmatch(info.content_address):
            self.daemon.add(path, of_contents(info), contents)
        elif info.content_address:
            raise Refused(f"{path}: only names from sha256 and sha512 are added to the host's store")
        elif info.signatures:
            self.daemon.add(path, signed(info), contents)
        else:
            # The guest has built the path, and the host cannot verify it. The host builds the path if it is needed.
            for _turn in contents:
                pass
        return left - info.size

    def contents(self, stream: wire.Reader, size: int) -> Iterator[bytes]:
        self.require_space(size)
        while size:
            self.look()
            part = min(size, wire.CHUNK)
            self.begin_part(stream, part)
            yield stream.take(part)
            size -= part

    def begin_part(self, stream: wire.Reader, size: int) -> None:
        stream.begin(size, self.limits.part_seconds)

    def build(self, request: wire.Reader) -> bytes:
        targets = read_targets(request)
        if request.number():
            raise Refused("the host builds normally for guests, and neither checks nor repairs")
        for target in targets:
            if ".drv!" not in target:
                raise Refused(f"{target}: the host only builds derivations for guests")
        with self.turn():
            self.require_space(0)
            for derivation in self.daemon.missing(targets).will_build:
                require_isolated(derivation)
            return self.daemon.build(targets)

    def build_derivation(self, request: wire.Reader) -> bytes:
        """What Nix asks for derivations that are not isolated; it sends the others."""
        raise Refused(NOT_ISOLATED.format(read_path(request)))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one of the turns that the guest has; errors of the daemon are for the guest."""
        self.begun = time.monotonic()
        self.report(start_of_activity("waiting for the host of this guest"))
        while not self.builder.free.acquire(timeout=1):
            self.look()
        try:
            yield
        except DaemonError as problem:
            raise Refused(f"the host's Nix: {problem}") from None
        finally:
            self.builder.free.release()
        self.report(wire.number(Message.STOP_ACTIVITY) + wire.number(ACTIVITY))

    def look(self) -> None:
        """Called again and again while the daemon works; an exception closes the connection, which ends a build."""
        now = time.monotonic()
        if now - self.looked < self.limits.look_seconds:
            return
        self.looked = now
        if now - self.begun > self.limits.request_seconds:
            raise Refused(f"the host ends what it does for a guest after {self.limits.request_seconds:g} s")
        self.require_space(0)
        hang_up = select.poll()
        hang_up.register(self.guest, select.POLLRDHUP)
        if hang_up.poll(0):
            raise wire.Closed
        self.report(progress())  # The guest would give up a host that is silent.

    def require_space(self, size: int) -> None:
        """So that guests cannot fill the host's store."""
        store = os.statvfs(STORE)
        if store.f_bavail * store.f_frsize - size < self.limits.free_space:
            least = self.limits.free_space >> 30
            raise Refused(f"less than {least} GiB would be free in the host's store; collect garbage on the host")

    def report(self, message: bytes) -> None:
        try:
            self.guest.settimeout(self.limits.part_seconds)
            self.guest.sendall(message)
        except OSError:
            raise wire.Closed from None


def of_contents(info: PathInfo) -> PathInfo:
    """Without the parts that the contents do not determine, and that cannot be verified."""
    return replace(signed(info), signatures=[])


def signed(info: PathInfo) -> PathInfo:
    return replace(info, deriver="", registered=0, is_ultimate=False)


def require_isolated(derivation: str) -> None:
    """The outputs of other derivations are named after their contents, so the guest can build and add them."""
    if not ISOLATED.match(read_start(derivation)):
        raise Refused(NOT_ISOLATED.format(derivation))


def read_start(derivation: str) -> bytes:
    """A guest may have added something else under such a name, but no file that could be waited for."""
    try:
        opened = os.open(derivation, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as file:
            return file.read(65536)
    except OSError as problem:
        raise Refused(f"{derivation}: {problem.strerror}") from None


def start_of_activity(text: str) -> bytes:
    numbers = map(wire.number, (Message.START_ACTIVITY, ACTIVITY, TALKATIVE, UNKNOWN_KIND))
    no_fields = no_parent = wire.number(0)
    return b"".join(numbers) + wire.text(text) + no_fields + no_parent


def progress() -> bytes:
    """Nothing is known of it: 0 of 0 are done, 0 run and 0 have failed."""
    figures = [wire.number(0) + wire.number(0)] * 4
    return b"".join(
        [wire.number(Message.RESULT), wire.number(ACTIVITY), wire.number(PROGRESS), wire.number(len(figures)), *figures]
    )


# How each operation is carried out: the request is read in parts, because what is added may be long.
BUILD_OPERATIONS: dict[int, Callable[[Builds, wire.Reader], bytes]] = {
    Operation.ADD_MULTIPLE_TO_STORE: Builds.add,
    Operation.BUILD_PATHS_WITH_RESULTS: Builds.build,
    Operation.BUILD_DERIVATION: Builds.build_derivation,
}
