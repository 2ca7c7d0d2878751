# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's mark: metadata that libvirt keeps and never interprets.

A mark belongs to the domain with its uuid. virt-clone and virt-manager copy metadata as well, and what the collection
has done for the original it has not done for the copy.
"""

from __future__ import annotations

from ..values import plain_uuid
from .places import Element, drop, ensure, etree, get, is_empty

NAMESPACE = "https://github.com/ncrmro/keystone/virtiofs"
MARK = f"{{{NAMESPACE}}}domain"
_PLACE = f"metadata/{MARK}"
_CREATED = f"{{{NAMESPACE}}}created-disk"


def find_mark(root: Element) -> Element:
    """The mark of a domain, None when there is none, or when it is another domain's."""
    mark = root.find(_PLACE)
    is_own = mark is not None and plain_uuid(mark.get("uuid")) == plain_uuid(get(root, "uuid"))
    return mark if is_own else None


def ensure_mark(root: Element) -> Element:
    """The mark of a domain, made when missing, in the place of another domain's."""
    mark = find_mark(root)
    if mark is None:
        drop(root, _PLACE)
        uuid = get(root, "uuid")
        named = {"uuid": uuid} if uuid else {}
        mark = etree.SubElement(ensure(root, "metadata"), MARK, named, nsmap={"keystone": NAMESPACE})
    return mark


def replace_mark(root: Element, mark: Element) -> None:
    """Give a definition the mark of the domain's earlier definition."""
    drop(root, _PLACE)
    ensure(root, "metadata").append(mark)


def drop_unused_mark(root: Element) -> None:
    """Remove a mark that says nothing: nothing of the collection stays in another tool's domain."""
    mark = find_mark(root)
    if mark is not None and set(mark.attrib) <= {"uuid"} and len(mark) == 0:
        metadata = mark.getparent()
        metadata.remove(mark)
        if is_empty(metadata):
            root.remove(metadata)


def created_disks(root: Element) -> list[Element]:
    """What is noted of the disks that were created for a domain: their keys, and which creation is pending."""
    mark = find_mark(root)
    return [] if mark is None else mark.findall(_CREATED)


def add_created_disk(root: Element, key: str) -> None:
    if all(disk.get("key") != key for disk in created_disks(root)):
        etree.SubElement(ensure_mark(root), _CREATED, key=key, pending="yes")


def note_created_disk(root: Element, key: str, pending: bool) -> None:
    for disk in created_disks(root):
        if disk.get("key") == key:
            disk.attrib.pop("pending", None)
            if pending:
                disk.set("pending", "yes")
