# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the files that the collection keeps for a domain: read-only bind mounts and virtiofsd wrappers.

The names encode everything, so that a definition can be parsed without access to the host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

DOMAINS = "domains"
STATE = "/var/lib/keystone-virtiofs"
"""What the collection keeps on a host; the roles keep the rest of this tree.

``domains/<domain>/``: ``ro`` (read-only bind mounts), ``nosuid`` (markers of sources that are mounted with nosuid),
``bin`` (wrappers of virtiofsd), ``boot`` (kernel and initrd of a directly booted system), ``cidata`` (what the seed is
made from), ``seed`` (the disk that cloud-init reads), ``ssh`` (the host key that cloud-init gives the guest), ``view``
(the part of the store that the guest is shown).
``guests/``: ``ssh`` (the key that opens each guest), ``known_hosts``. ``database/``: a copy of the Nix database for
guests. ``mounts``: the mounts to make at boot. ``benchmark/``: data of a run.
"""

SESSION_STATE = ".local/share/keystone-virtiofs"
"""The same for the domains of a user's session, in the user's home directory."""

_DOMAIN = rf"(?:{STATE}|/.+/{re.escape(SESSION_STATE)})/{DOMAINS}/[^/]+"
_BIND = re.compile(rf"{_DOMAIN}/ro/(?P<source>[^/]+)\Z")
_STORE = re.compile(rf"/nix/store|{_DOMAIN}/view/store")
_WRAPPER = re.compile(rf"{_DOMAIN}/bin/virtiofsd(?P<flags>(,[^/]*)?)\Z")


class ShareBackend(NamedTuple):
    """How the host implements options that libvirt's XML cannot express.

    ``read_only_element``: virtiofsd enforces ``<readonly/>``; otherwise the source is a read-only bind mount.
    ``state``: the directory for the domain's bind mounts and wrappers.
    """

    domain: str
    read_only_element: bool = True
    state: str = STATE


def domain_directory(state: str, domain: str) -> str:
    """What is kept for one domain."""
    return f"{state}/{DOMAINS}/{domain}"


def bind_path(backend: ShareBackend, source: str) -> str:
    """Where the read-only bind mount of a source lies; the name is reversible, so XML alone shows the source."""
    return f"{domain_directory(backend.state, backend.domain)}/ro/{quote(source, safe='')}"


def bound_source(path: str) -> str | None:
    """The source behind a read-only bind mount of the collection, None for any other path."""
    match = _BIND.match(path)
    return unquote(match["source"]) if match else None


def wrapper_flags(path: str | None) -> dict[str, str]:
    """The virtiofsd flags that a wrapper of the collection adds; they are its file name. "" is a flag without value."""
    match = _WRAPPER.match(path or "")
    flags = (flag.partition("=") for flag in match["flags"].split(",")[1:]) if match else ()
    return {name: value for name, _equals, value in flags}


def is_store(path: str) -> bool:
    """The host's Nix store, or a view of it."""
    return _STORE.fullmatch(path) is not None


def is_wrapper(path: str) -> bool:
    """A wrapper of the collection, for whichever domain."""
    return _WRAPPER.match(path) is not None


def is_foreign(path: str, backend: ShareBackend) -> bool:
    """A bind mount or a wrapper of the collection for another domain: of a clone's original, of an earlier name."""
    is_ours = bound_source(path) is not None or is_wrapper(path)
    own = f"{domain_directory(backend.state, backend.domain)}/"
    return is_ours and path.startswith(f"{backend.state}/") and not path.startswith(own)


def wrapper_path(backend: ShareBackend, flags: Mapping[str, str]) -> str:
    name = ",".join(["virtiofsd", *(f"{flag}={value}" if value else flag for flag, value in sorted(flags.items()))])
    return f"{domain_directory(backend.state, backend.domain)}/bin/{name}"
