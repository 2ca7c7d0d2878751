# SPDX-License-Identifier: GPL-3.0-or-later
"""The closure of store paths as one image, or as two: the base, and the update with what the base lacks.

Writing an image takes seconds for each GiB. A base stays while its update is small: then only the update is written.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from ..._domain.path_safety import PathUse
from ..._domain.values import between, check_absolute, check_file
from ..._errors import HostError, InvalidInput
from ..files.sources import real_path
from ..limits import Limits, read_limits
from .closure import Closure, read_closure, roots_of, size_of
from .image import UPDATE_UUID, UUID, StoreImage, describe

# The images by the options that name their files, in the order in which they are written: a guest that starts in
# between has the new base below an older update, and never an older path than before.
Images = Mapping[str, StoreImage]
Contents = Mapping[str, Closure]


def manage(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the images to the state that the options of module store_image ask for; the module's return values."""
    _check_values(params)
    uuids = {"path": UUID, "update_path": UPDATE_UUID}
    images = {option: StoreImage(params[option], uuid) for option, uuid in uuids.items() if params[option]}
    _check_places(images)
    try:
        for option, image in images.items():
            image.refuse_other_files(option)
        return _present(images, params, check_mode) if params["state"] == "present" else _absent(images, check_mode)
    except OSError as error:
        fix = "Use become if this user lacks permission, or choose another path."
        raise HostError(f"store image {params['path']}: {error}", fix=fix) from error


def update_of(base: Closure, closure: Closure, limit: int) -> Closure | None:
    """What a base lacks of a closure; None when the base is too different to be kept.

    ``limit`` is how much the base may lack or hold without use, in percent of the closure.
    """
    lacking = {path: contents for path, contents in closure.items() if base.get(path) != contents}
    unused = {path: contents for path, contents in base.items() if closure.get(path) != contents}
    if 100 * (size_of(lacking) + size_of(unused)) > limit * size_of(closure):
        return None
    # Without regard to sizes, which are 0 where Nix does not know them.
    return None if limit == 0 and base != closure else lacking


def _check_values(params: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a path that is none, and for a number that is too small or too large."""
    checks = {
        "path": check_file,
        "update_path": check_file,
        "update_limit": between(0, 90, "percent"),
        "store_root": check_absolute,
        "timeout": between(1, 86400, "seconds"),
    }
    for option, check in checks.items():
        problem = check(params[option]) if params[option] is not None else None
        if problem:
            raise InvalidInput(f"{option}: {problem}", fix=f"Correct {option}.")


def _present(images: Images, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    root, limits = params["store_root"], read_limits()
    _check_sources([root] if root != "/" else [], limits)
    _check_sources(params["store_paths"], limits)
    closure = read_closure(params["store_paths"], root)
    _check_sources(closure, limits)
    before = _contents(images)
    after, unused_roots = _wanted(images, before["path"], closure, params, limits)
    changed = False
    for option, image in images.items():
        outdated = before[option] != after[option]
        changed = changed or outdated or bool(image.unfinished())
        if outdated and not check_mode:
            image.make(after[option], root, params["timeout"])
        elif image.unfinished() and not check_mode:
            image.remove_unfinished()
    return _result(images, before, after) | {
        "changed": changed,
        "store_path_count": len(closure),
        "unused_roots": unused_roots,
    }


def _wanted(
    images: Images, own_base: Closure | None, closure: Closure, params: Mapping[str, Any], limits: Limits
) -> tuple[Contents, list[str]]:
    """What the images have to hold, by the options that name their files, and GC roots of the unused paths in them."""
    if "update_path" not in images:
        return {"path": closure}, []
    # A base of another guest is shared, as one file.
    bases = chain([own_base], (other.contents() for other in images["path"].others()))
    for base in filter(None, bases):
        update = update_of(base, closure, params["update_limit"])
        unused = {path: contents for path, contents in base.items() if path not in closure}
        if update is None or not _are_allowed(unused, limits):
            continue
        # The guest must not see what the host's store no longer has, or has with other contents.
        roots = roots_of(unused, params["store_root"])
        if roots is not None:
            return {"path": base, "update_path": update}, roots
    return {"path": closure, "update_path": {}}, []


def _absent(images: Images, check_mode: bool) -> dict[str, Any]:
    before, changed = _contents(images), any(image.leftovers() for image in images.values())
    for image in images.values():
        if image.leftovers() and not check_mode:
            image.remove()
    after: Contents = {option: {} for option in images}
    return _result(images, before, after) | {"changed": changed, "store_path_count": 0, "unused_roots": []}


def _result(images: Images, before: Mapping[str, Closure | None], after: Contents) -> dict[str, Any]:
    base, update = images["path"], images.get("update_path")
    return {
        "path": str(base.path),
        "update_path": str(update.path) if update else None,
        "exists": all(image.path.exists() for image in images.values()),
        "size": base.size(),
        "update_size": update.size() if update else None,
        "diff": [
            {
                "before_header": str(image.list),
                "after_header": str(image.list),
                "before": describe(before[option] or {}),
                "after": describe(after[option]),
            }
            for option, image in images.items()
        ],
    }


def _contents(images: Images) -> dict[str, Closure | None]:
    return {option: image.contents() for option, image in images.items()}


def _check_places(images: Images) -> None:
    """Raise InvalidInput for an image that the host's administrator has not allowed, or that would replace another."""
    taken: set[Path] = set()
    for option, image in images.items():
        place = Path(real_path(str(image.path.parent)), image.path.name)
        read_limits().check_paths([PathUse("", option, str(image.path), str(place))])
        files = {place, Path(f"{place}.paths")}
        if files & taken:
            raise InvalidInput(f"{option} {image.path} is a file of the other image", fix=f"Choose another {option}.")
        taken |= files


def _check_sources(paths: Iterable[str], limits: Limits) -> None:
    """Raise InvalidInput for store paths, or a root of a store, that the host's administrator has not allowed."""
    limits.check_paths(PathUse("", "source", path, posixpath.normpath(path)) for path in paths)


def _are_allowed(paths: Iterable[str], limits: Limits) -> bool:
    try:
        _check_sources(paths, limits)
    except InvalidInput:
        return False
    return True
