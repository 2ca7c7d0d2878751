# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories of the host that a task names."""

from __future__ import annotations

import os
from pathlib import Path

from ..._errors import InvalidInput


def require_directory(path: str) -> None:
    """Raise InvalidInput when a share's source cannot be shared; libvirt would find out only at the start."""
    source = Path(path)
    try:
        source.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInput(f"source {path} does not exist", fix="Create it, or correct source.") from None
    except PermissionError:
        fix = "Use become, or share a directory that this user can read."
        raise InvalidInput(f"permission denied for source {path}", fix=fix) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: what pathlib raises for a loop before Python 3.13
        raise InvalidInput(f"source {path} is a symlink loop: {error}", fix="Correct the link.") from None
    if not source.is_dir():
        raise InvalidInput(f"source {path} is not a directory", fix="Share the directory that it lies in.")


def real_path(path: str) -> str:
    """The path without links and detours, as far as it leads."""
    return os.path.realpath(path)  # noqa: PTH - Path.resolve fails on a link that leads to itself


def is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file fails in a directory that this user may not search


def require_log(path: str) -> None:
    """Raise InvalidInput for a log that libvirt could not write; it creates the file, but no directory."""
    if not (is_file(path) or (is_directory(str(Path(path).parent)) and not os.path.lexists(path))):
        raise InvalidInput(
            f"serial_log: {path} is not a file, or the directory above it does not exist",
            fix="Create the directory, or correct serial_log.",
        )


def exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - as is_file


def is_directory(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - as is_file


def has_interface(name: str) -> bool:
    """The host has a network interface, such as a bridge, of this name."""
    return is_directory(f"/sys/class/net/{name}")
