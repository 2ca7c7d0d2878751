# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Nix database of the host says about store paths."""

from __future__ import annotations

from collections.abc import Sequence

from ... import _commands
from ..._errors import InvalidInput

STORE = "/nix/store"


def read_closure(paths: Sequence[str], store_root: str) -> dict[str, str]:
    """Every path of the closure with the hash of its contents, which may differ after the path was rebuilt."""
    closure = sorted(set(_requisites(paths, store_root)))
    hashes = _commands.check(["nix-store", "--query", "--hash", *closure], environment=_environment(store_root))
    return dict(zip(closure, hashes.split()))


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
