# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtiofs share, <filesystem>, as options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..schema import SHARE, Field, read_fields
from ..state_paths import ShareBackend, bind_path, wrapper_flags, wrapper_path
from . import codecs
from .places import Element, drop, etree, get, put


def read_share(element: Element) -> dict[str, Any]:
    """A <filesystem> of driver virtiofs as share options."""
    return read_fields(SHARE, element)


def write_share(element: Element, values: Mapping[str, Any], backend: ShareBackend) -> None:
    """Write the given share options into a <filesystem>; options that are not given stay as they are."""
    given = {option: value for option, value in values.items() if value is not None}
    # A directory replaces a socket and the other way round; the daemon behind a socket takes no options from libvirt.
    if given.get("source"):
        put(element, "source/@socket", None)
    if given.get("socket"):
        put(element, "source/@dir", None)
        drop(element, "binary")
        drop(element, "idmap")
    wanted = {**read_share(element), **given}
    for field in SHARE:
        if field.place and field.codec.write and field.option in given:
            field.codec.write(element, field.place, given[field.option])
    _write_share_source(element, wanted, backend)
    _write_share_daemon(element, wanted, backend)


def _write_share_source(element: Element, wanted: Mapping[str, Any], backend: ShareBackend) -> None:
    """The source, and who enforces read-only: virtiofsd itself, or the host's kernel through a bind mount."""
    drop(element, "readonly")
    source = wanted["source"]
    if wanted["socket"]:
        return
    if wanted["read_only"] and backend.read_only_element:
        etree.SubElement(element, "readonly")
    elif wanted["read_only"]:
        source = bind_path(backend, source)
    put(element, "source/@dir", source)


def _write_share_daemon(element: Element, wanted: Mapping[str, Any], backend: ShareBackend) -> None:
    """The cache mode, and the wrapper that adds the flags for which libvirt has no XML."""
    cache = wanted["cache"]
    # "auto" is virtiofsd's default and cannot be said in XML: the element is left out.
    put(element, "binary/cache/@mode", cache if cache in ("none", "always") else None)
    flags = dict(_wrapper_flag(field, wanted[field.option]) for field in SHARE if needs_wrapper(field, wanted))
    if flags:
        put(element, "binary/@path", wrapper_path(backend, flags))
    elif wrapper_flags(get(element, "binary/@path")):
        put(element, "binary/@path", None)


def needs_wrapper(field: Field, wanted: Mapping[str, Any]) -> bool:
    """Whether virtiofsd is given the option by a wrapper, because libvirt has no XML for its value."""
    value = wanted.get(field.option)
    if field.codec is codecs.CACHE:
        return value in ("metadata", "store")
    return field.codec in (codecs.WRAPPER_VALUE, codecs.WRAPPER_SWITCH) and bool(value)


def _wrapper_flag(field: Field, value: Any) -> tuple[str, str]:
    if field.codec is codecs.CACHE:
        return "cache", value
    return field.place, "" if field.codec is codecs.WRAPPER_SWITCH else value


def render_share(values: Mapping[str, Any], backend: ShareBackend) -> Element:
    """A new <filesystem> for a share."""
    element = etree.Element("filesystem", type="mount", accessmode="passthrough")
    etree.SubElement(element, "driver", type="virtiofs")
    initial = {field.option: field.initial for field in SHARE if field.initial is not None}
    given = {option: value for option, value in values.items() if value is not None}
    write_share(element, {**initial, **given}, backend)
    return element
