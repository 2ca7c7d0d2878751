# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts that start virtiofsd with flags for which libvirt has no XML."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from ..._domain.state_paths import domain_directory, wrapper_flags
from . import writing
from .state import remove_part

# On NixOS a path below /nix/store dies with the next garbage collection; this link lives as long as the system.
STABLE_BIN = Path("/run/current-system/sw/bin")


def list_wrappers(state: str, domain: str, virtiofsd: str) -> dict[str, bool]:
    """The domain's wrappers: path, and whether it starts this virtiofsd."""
    root = Path(domain_directory(state, domain), "bin")
    files = sorted(root.iterdir()) if root.is_dir() else []
    paths = [str(path) for path in files if not writing.is_temporary(path)]
    return {path: Path(path).read_text() == _script(virtiofsd, wrapper_flags(path)) for path in paths}


def write_wrapper(path: str, virtiofsd: str, flags: Mapping[str, str]) -> None:
    """Write the script; it appears only when it is complete."""
    wrapper = Path(path)
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    writing.replace_file(wrapper, _script(virtiofsd, flags).encode(), 0o755)


def remove_wrapper(path: str) -> None:
    Path(path).unlink(missing_ok=True)
    remove_part(Path(path).parent)


def _script(virtiofsd: str, flags: Mapping[str, str]) -> str:
    daemon = Path(virtiofsd)
    stable = STABLE_BIN / daemon.name
    command = str(stable if virtiofsd.startswith("/nix/store/") and stable.exists() else daemon)
    arguments = [f"--{flag}={shlex.quote(value)}" if value else f"--{flag}" for flag, value in sorted(flags.items())]
    return f'#!/bin/sh\nexec {shlex.quote(command)} "$@" {" ".join(arguments)}\n'
