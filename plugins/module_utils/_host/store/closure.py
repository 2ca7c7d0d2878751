# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Nix database of the host says about store paths."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from ... import _commands
from ..._errors import HostError, InvalidInput

STORE = "/nix/store"

# How many paths a command gets at once: Linux limits its arguments to 2 MiB.
_BATCH = 5000
# In bytes; a path may refer to thousands of others.
_OUTPUT_LIMIT = 64 * 2**20


class StorePath(NamedTuple):
    """What a store path holds: the hash of its contents, which may differ after a rebuild, and their size in bytes."""

    digest: str
    size: int


Closure = Mapping[str, StorePath]


def read_closure(paths: Sequence[str], store_root: str) -> Closure:
    """Every path of the closure, in the order of their names."""
    registered = _registrations(sorted(set(_requisites(paths, store_root))), store_root)
    return {path: contents for path, contents, _references in registered}


def roots_of(paths: Closure, store_root: str) -> list[str] | None:
    """GC roots that keep the paths: those that no other of them refers to.

    None unless the host's store has all of the paths, with the same contents.
    """
    try:
        registered = list(_registrations(paths, store_root))
    except HostError:
        return None
    if {path: contents for path, contents, _references in registered} != paths:
        return None
    referred = {reference for path, _contents, references in registered for reference in references - {path}}
    return sorted(paths.keys() - referred)


def size_of(closure: Closure) -> int:
    """The size of the contents in bytes."""
    return sum(path.size for path in closure.values())


def _registrations(paths: Collection[str], store_root: str) -> Iterator[tuple[str, StorePath, set[str]]]:
    """Each path, what it holds, and what it refers to. Raises HostError when Nix does not know a path."""
    listed = list(paths)
    for start in range(0, len(listed), _BATCH):
        command = ["nix-store", "--dump-db", *listed[start : start + _BATCH]]
        dump = _commands.check(command, output_limit=_OUTPUT_LIMIT, environment=_environment(store_root))
        lines = iter(dump.splitlines())
        # For each path: the path, hash, size, derivation (may be empty), number of references, references.
        for path in lines:
            digest, size, _deriver, count = islice(lines, 4)
            yield path, StorePath(f"sha256:{digest}", int(size)), set(islice(lines, int(count)))


def _requisites(paths: Sequence[str], store_root: str) -> list[str]:
    outside = [path for path in paths if not path.startswith(f"{STORE}/")]
    if outside or not paths:
        problem = f"store_paths: not below {STORE}: {', '.join(outside)}" if outside else "store_paths is empty"
        raise InvalidInput(problem, fix=f"List at least one path in {STORE}, such as the one that a link resolves to.")
    done = _commands.run(["nix-store", "--query", "--requisites", *paths], environment=_environment(store_root))
    if done.status:
        raise InvalidInput(
            f"store_paths: Nix cannot determine the closure: {done.message}",
            fix="Build the paths on this host first, or correct store_paths.",
        )
    return done.stdout.split()


def _environment(store_root: str) -> dict[str, str]:
    return {} if store_root == "/" else {"NIX_REMOTE": store_root}
