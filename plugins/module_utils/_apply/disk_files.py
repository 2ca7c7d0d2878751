# SPDX-License-Identifier: GPL-3.0-or-later
"""The files behind the disks of domains."""

from __future__ import annotations

import posixpath
from functools import partial

from .._domain import path_safety
from .._domain.model import Observed, Options, Resolved, disk_key
from .._domain.path_safety import PathUse
from .._domain.xml.document import DomainXml
from .._host.files import disks, sources
from .._host.gateway import Gateway


def file_of(gateway: Gateway, key: str) -> str:
    """The file behind a disk's key; many paths lead to one file, and so may a pool and a volume."""
    pool, _slash, volume = key.partition("/")
    path = gateway.volume_path(pool, volume) if pool else key
    return sources.real_path(path) if path and not gateway.is_remote else path or key


def resolve(gateway: Gateway, stated: str) -> Resolved:
    """Where a path, or a disk's key, leads on this host, and by way of what."""
    path = stated if stated.startswith("/") else file_of(gateway, stated)
    if gateway.is_remote or not path.startswith("/"):
        return Resolved(posixpath.normpath(path))
    return Resolved(sources.real_path(path), sources.way_to(path))


def uses_of(gateway: Gateway, domain: Observed) -> list[PathUse]:
    """Every file of the host that a domain uses, by any of its definitions, with what its disks are based on."""
    found: dict[PathUse, None] = {}
    for document in domain.documents:
        found.update(dict.fromkeys(path_safety.uses(domain.name, document, partial(resolve, gateway))))
        bases = {
            base for disk in document.disks() if disk["path"] or disk["volume"] for base in bases_of(gateway, disk)
        }
        found.update(dict.fromkeys(PathUse(domain.name, "backing", base, base) for base in sorted(bases)))
    return list(found)


def bases_of(gateway: Gateway, disk: Options) -> list[str]:
    """The files that an attached disk is based on, as far as this host can be asked."""
    if gateway.is_remote:
        return []
    return disks.backing_chain(file_of(gateway, disk_key(disk)), disk["format"] or "raw")


def created_disks(gateway: Gateway, document: DomainXml) -> list[str]:
    """The disks that were created for a domain, with the overlays that were added since."""
    created = document.created_disks()
    files = {file_of(gateway, key) for key in created}
    for disk in document.disks() if created else ():
        chain = bases_of(gateway, disk)
        depth = max((chain.index(file) + 1 for file in files & set(chain)), default=0)
        created += [key for key in [disk_key(disk), *chain][:depth] if key not in created]
    return created
