# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest may ask, and the answers: nothing about a path that the guest is not shown.

A path outside is answered like a path that does not exist, and without asking Nix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from . import wire
from .daemon import Daemon, DaemonError
from .protocol import Operation

T = TypeVar("T")

STORE = "/nix/store/"
PATH = re.compile(STORE + r"[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+_?=-][0-9A-Za-z+._?=-]{0,210}", re.ASCII)
TARGET = re.compile(PATH.pattern + r"(!([0-9A-Za-z+._?=,-]{1,1000}|\*))?", re.ASCII)
HASH_PART = re.compile(r"[0-9a-df-np-sv-z]{32}", re.ASCII)
OUTPUT_ID = re.compile(r"sha256:[0-9a-f]{64}![0-9A-Za-z+._?=-]{1,211}", re.ASCII)


class Queries:
    """The queries of one connection; ``shown`` has an entry for each path that the guest is shown, None shows all."""

    def __init__(self, daemon: Daemon, shown: Path | None) -> None:
        self.daemon = daemon
        self.shown = shown
        self.rooted: set[str] = set()

    def shows(self, path: str) -> bool:
        if self.shown is None:
            return True
        try:
            (self.shown / path[len(STORE) :]).lstat()
        except FileNotFoundError:
            return False
        return True

    def filtered(self, paths: list[str]) -> list[str]:
        return [path for path in paths if self.shows(path)]

    def rooting(self, query: Callable[[], T], paths_of: Callable[[T], list[str]]) -> T:
        """Ask, and let the host's garbage collector keep what the answer names for as long as the connection lasts.

        The second answer counts: a path may be collected between the first and its root.
        """
        answer = query()
        new = set(paths_of(answer)) - self.rooted
        if not new:
            return answer
        for path in new:
            self.daemon.add_temp_root(path)
        self.rooted |= new
        return query()

    def is_valid_path(self, path: str) -> bytes:
        return wire.number(self.shows(path) and self.is_rooted(path))

    def is_rooted(self, path: str) -> bool:
        return self.rooting(lambda: self.daemon.is_valid_path(path), lambda valid: [path] if valid else [])

    def valid_paths(self, paths: list[str]) -> bytes:
        shown = self.filtered(paths)
        valid = self.rooting(lambda: self.daemon.valid_paths(shown), lambda found: found) if shown else []
        return wire.texts(valid)

    def path_info(self, path: str) -> bytes:
        info = None
        if self.shows(path):
            info = self.rooting(lambda: self.daemon.path_info(path), lambda found: [path] if found else [])
        # A path whose references are not all shown cannot be used.
        if info is None or not all(map(self.shows, info.references)):
            return wire.number(0)
        return wire.number(1) + replace(info, deriver=self.optional(info.deriver)).encoded()

    def optional(self, path: str) -> str:
        return path if path and self.shows(path) else ""

    def path_from_hash_part(self, part: str) -> bytes:
        return wire.text(self.optional(self.daemon.path_from_hash_part(part)))

    def referrers(self, path: str) -> bytes:
        return self.paths_of(Operation.QUERY_REFERRERS, path)

    def valid_derivers(self, path: str) -> bytes:
        return self.paths_of(Operation.QUERY_VALID_DERIVERS, path)

    def paths_of(self, operation: Operation, path: str) -> bytes:
        return wire.texts(self.filtered(self.daemon.texts_of(operation, path)) if self.shows(path) else [])

    def derivation_outputs(self, path: str) -> bytes:
        return wire.texts(self.filtered(self.daemon.texts_of(Operation.QUERY_DERIVATION_OUTPUTS, self.required(path))))

    def derivation_output_names(self, path: str) -> bytes:
        return wire.texts(self.daemon.texts_of(Operation.QUERY_DERIVATION_OUTPUT_NAMES, self.required(path)))

    def derivation_output_map(self, path: str) -> bytes:
        outputs = self.daemon.output_map(self.required(path))
        encoded = [wire.text(name) + wire.text(self.optional(output)) for name, output in outputs]
        return wire.number(len(encoded)) + b"".join(encoded)

    def realisations(self, output: str) -> bytes:
        return wire.texts(found for found in self.daemon.realisations(output) if self.shows_realisation(found))

    def shows_realisation(self, realisation: str) -> bool:
        fields = json.loads(realisation)
        outputs = [fields["outPath"], *fields.get("dependentRealisations", {}).values()]
        return all(self.shows(STORE + output.removeprefix(STORE)) for output in outputs)

    def missing(self, targets: list[str]) -> bytes:
        for target in targets:
            self.required(target.split("!")[0])
        missing = self.daemon.missing(targets)
        listed = [missing.will_build, missing.will_substitute, missing.unknown]
        sizes = [missing.download_size, missing.size]
        return b"".join([wire.texts(self.filtered(paths)) for paths in listed] + [wire.number(size) for size in sizes])

    def add_temp_root(self, path: str) -> bytes:
        """A path that is not valid needs no root, and would only let the daemon's file of roots grow."""
        if self.shows(path):
            self.is_rooted(path)
        return wire.number(1)

    def set_options(self, options: None) -> bytes:
        return b""

    def required(self, path: str) -> str:
        if not self.shows(path):
            raise DaemonError(f"{path} is not shown to this guest")
        return path


def read_path(request: wire.Reader) -> str:
    return read_matching(request, PATH, "a store path")


def read_hash_part(request: wire.Reader) -> str:
    return read_matching(request, HASH_PART, "a hash part")


def read_output_id(request: wire.Reader) -> str:
    return read_matching(request, OUTPUT_ID, "an output of a derivation")


def read_paths(request: wire.Reader) -> list[str]:
    paths = request.many(lambda: read_path(request))
    request.flag()  # whether to substitute: never
    return paths


def read_targets(request: wire.Reader) -> list[str]:
    return request.many(lambda: read_matching(request, TARGET, "a derivation with outputs"))


def read_options(request: wire.Reader) -> None:
    """Accepted, because every client begins with them, and not passed on."""
    for _turn in range(12):
        request.number()
    request.many(lambda: (request.text(), request.text()))


def read_matching(request: wire.Reader, pattern: re.Pattern[str], what: str) -> str:
    text = request.text()
    if not pattern.fullmatch(text):
        raise wire.Malformed(f"a text that is not {what}")
    return text


# How to read the arguments of each operation, and how to answer. All other operations are refused.
ALLOWED: dict[int, tuple[Callable[[wire.Reader], Any], Callable[[Queries, Any], bytes]]] = {
    Operation.IS_VALID_PATH: (read_path, Queries.is_valid_path),
    Operation.QUERY_REFERRERS: (read_path, Queries.referrers),
    Operation.ADD_TEMP_ROOT: (read_path, Queries.add_temp_root),
    Operation.SET_OPTIONS: (read_options, Queries.set_options),
    Operation.QUERY_DERIVATION_OUTPUTS: (read_path, Queries.derivation_outputs),
    Operation.QUERY_PATH_INFO: (read_path, Queries.path_info),
    Operation.QUERY_DERIVATION_OUTPUT_NAMES: (read_path, Queries.derivation_output_names),
    Operation.QUERY_PATH_FROM_HASH_PART: (read_hash_part, Queries.path_from_hash_part),
    Operation.QUERY_VALID_PATHS: (read_paths, Queries.valid_paths),
    Operation.QUERY_VALID_DERIVERS: (read_path, Queries.valid_derivers),
    Operation.QUERY_MISSING: (read_targets, Queries.missing),
    Operation.QUERY_DERIVATION_OUTPUT_MAP: (read_path, Queries.derivation_output_map),
    Operation.QUERY_REALISATION: (read_output_id, Queries.realisations),
}
