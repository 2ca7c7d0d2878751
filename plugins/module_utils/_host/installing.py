# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and symbolic links as a task wants them, each put in its place in one step."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .._errors import HostError, InvalidInput
from .files.writing import leftover_files, remove_leftovers, replace_file, replace_with_link


class Entry(NamedTuple):
    """What is at a path: a file with its mode, or a symbolic link with its target."""

    mode: int | None
    content: bytes  # of a link: its target

    def __str__(self) -> str:
        kind = "symbolic link" if self.mode is None else f"mode {self.mode:04o}"
        return f"{kind}\n{self.content.decode(errors='replace')}"


def manage(wanted: Iterable[Mapping[str, Any]], check_mode: bool) -> dict[str, Any]:
    """Install what differs; return the result of the module."""
    differing = []
    for options in wanted:
        path, new = Path(options["path"]), _wanted(options)
        old = _found(path)
        if new != old:
            differing.append((path, old, new))
    if not check_mode:
        for path, _old, new in differing:
            _install(path, new)
    return {
        "changed": bool(differing),
        "paths": [str(path) for path, _old, _new in differing],
        "diff": [
            {"before_header": str(path), "after_header": str(path), "before": f"{old or ''}", "after": f"{new}"}
            for path, old, new in differing
        ],
    }


def _wanted(options: Mapping[str, Any]) -> Entry:
    if options["target"] is not None:
        return Entry(None, os.fsencode(Path(options["target"])))
    return Entry(_mode(options), options["content"].encode())


def _mode(options: Mapping[str, Any]) -> int:
    try:
        mode = int(options["mode"], 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        problem = f"mode of {options['path']}: {options['mode']!r} is not octal"
        raise InvalidInput(problem, fix='Use a mode such as "0644".')
    return mode


def _found(path: Path) -> Entry | None:
    """The existing entry; a link is not followed."""
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return Entry(None, os.fsencode(path.readlink()))
        if not stat.S_ISREG(found.st_mode):
            raise HostError(f"{path} is neither a file nor a link", fix="Remove it, or choose another path.")
        return Entry(stat.S_IMODE(found.st_mode), path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure(path, error) from error


def _install(path: Path, entry: Entry) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.mode is None:
            replace_with_link(path, Path(os.fsdecode(entry.content)))
        else:
            remove_leftovers(leftover_files(path))
            replace_file(path, entry.content, entry.mode)
            path.chmod(entry.mode)
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: Path, error: OSError) -> HostError:
    fix = "Make the path accessible to the user of the task, or choose another path."
    return HostError(f"{path}: {error.strerror}", fix=fix)
