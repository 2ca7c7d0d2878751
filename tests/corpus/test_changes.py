# SPDX-License-Identifier: GPL-3.0-or-later
"""Change every document of the corpus as a task would; nothing else may change with it.

Each document gets all changes of shares, and one of the options in turn; with KEYSTONE_CORPUS=all, each of the options.
A failure lists the documents.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import pytest
from lxml import etree

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import Define, Host, Observed, Plan
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain, plan_share
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.tests.corpus.conftest import NEVER, Figures
from ansible_collections.keystone.virtiofs.tests.corpus.documents import Document
from ansible_collections.keystone.virtiofs.tests.unit.support import BOOKWORM, TRIXIE, domain, share

Planner = Callable[[Observed, Host], Plan]

TAG = "keystone-corpus"
SHARED_MEMORY = (
    "/domain/memoryBacking",
    "/domain/memoryBacking/source",
    "/domain/memoryBacking/source@type",
    "/domain/memoryBacking/access",
    "/domain/memoryBacking/access@mode",
    "/domain/cpu/numa/cell@memAccess",
    "/domain/devices/memory@access",
)
FILESYSTEM = ("/domain/devices", "/domain/devices/filesystem*")
MARK = ("/domain/metadata", "/domain/metadata/domain*")
DISK = ("/domain/devices", "/domain/devices/disk*")

# Some documents let their guest write to the whole host, by a driver other than virtiofs: no new path is safe there.
EXPOSED = "is inside /, which share .* exposes writable"


class Change(NamedTuple):
    """Options of module domain, and the places of a domain that they are about; * ends a place of any depth."""

    name: str
    options: dict[str, Any]
    places: tuple[str, ...]
    refused: str = NEVER  # the reason for which a document may refuse this change


CHANGES = [
    Change(
        "memory",
        {"memory": 7777},
        ("/domain/memory*", "/domain/currentMemory*", "/domain/cpu/numa/cell@memory", "/domain/cpu/numa/cell@unit"),
        "is more than the maximum of the domain",
    ),
    Change("vcpus", {"vcpus": 3}, ("/domain/vcpu",)),
    Change("cpu", {"cpu": "host-model"}, ("/domain/cpu*",)),
    Change("disks", {"disks": [{"path": "/srv/disk.raw", "size": 10, "format": "raw"}]}, (*DISK, *MARK), EXPOSED),
    Change(
        "interfaces",
        {"interfaces": [{"type": "user", "mac": "52:54:00:aa:aa:aa"}]},
        ("/domain/devices", "/domain/devices/interface*"),
    ),
    Change("iso", {"iso": "/srv/installer.iso"}, (*DISK, "/domain/os", "/domain/os/boot*"), EXPOSED),
    Change(
        "kernel",
        {"kernel": "/srv/kernel", "initrd": "/srv/initrd", "cmdline": "quiet"},
        ("/domain/os", "/domain/os/kernel", "/domain/os/initrd", "/domain/os/cmdline"),
        EXPOSED,
    ),
    Change("firmware", {"firmware": "bios"}, ("/domain/os*", "/domain/features/smm*")),
    Change("shares", {"shares": [{"tag": TAG, "source": "/srv/shared"}]}, (*FILESYSTEM, *SHARED_MEMORY), EXPOSED),
]


HOSTS = {"bookworm": BOOKWORM, "trixie": TRIXIE}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_an_option_changes_its_places_only(documents: list[Document], figures: Figures, change: Change) -> None:
    def problems(document: Document) -> Iterator[str]:
        planner = partial(_domain_planner, change.options)
        after = yield from _apply(planner, document.text, HOSTS[document.release.name])
        yield from _differences(document.text, after, change.places)
        yield from _validity(document, after)

    every_pair = os.environ.get("KEYSTONE_CORPUS") == "all"
    chosen = documents if every_pair else documents[CHANGES.index(change) :: len(CHANGES)]
    figures.check(chosen, problems, change.refused)


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_a_share_is_added_changed_and_removed(documents: list[Document], figures: Figures, host: Host) -> None:
    def problems(document: Document) -> Iterator[str]:
        added = yield from _apply(partial(_share_planner, {"source": "/srv/shared"}), document.text, host)
        yield from _differences(document.text, added, FILESYSTEM + SHARED_MEMORY)
        yield from _validity(document, added)
        changed = yield from _apply(partial(_share_planner, {"source": "/srv/other"}), added, host)
        yield from _differences(added, changed, ("/domain/devices/filesystem/source@dir",))
        removed = yield from _apply(partial(_share_planner, {"state": "absent"}), changed, host)
        yield from _differences(document.text, removed, ("/domain/devices", *SHARED_MEMORY))

    figures.check(documents, problems, EXPOSED)


def test_a_running_domain_gets_a_share(documents: list[Document], figures: Figures) -> None:
    def problems(document: Document) -> Iterator[str]:
        running = replace(_seen(document.text), live=DomainXml(document.text), run_state="running")
        plan = _share_planner({"source": "/srv/shared"}, running, HOSTS[document.release.name])
        steps = {type(action).__name__ for action in plan.actions}
        if ("AttachShare" in steps) == bool(plan.restart_reasons):
            yield f"neither plugged nor left to a restart, or both: {sorted(steps)}, {plan.restart_reasons}"

    figures.check(documents, problems, EXPOSED)


def test_a_document_defines_a_domain(documents: list[Document], figures: Figures) -> None:
    def problems(document: Document) -> Iterator[str]:
        host = HOSTS[document.release.name]
        name = DomainXml(document.text).name
        wanted = domain(name, xml=document.text, allow_unsafe_paths=True)
        defined = _after(plan_domain(wanted, Observed(name or ""), host))
        again = plan_domain(wanted, _seen(defined or ""), host)
        if _after(again) is not None:
            yield "defined again by the second run"
        # The mark names a UUID, so one is chosen for a document that has none.
        places = MARK if DomainXml(document.text).uuid else (*MARK, "/domain/uuid")
        yield from _differences(document.text, defined or "", places)

    figures.check(documents, problems, "Choose another name")


# How a check looks at a document.


def _domain_planner(options: dict[str, Any], observed: Observed, host: Host) -> Plan:
    return plan_domain(domain(observed.name, **options), observed, host)


def _share_planner(options: dict[str, Any], observed: Observed, host: Host) -> Plan:
    return plan_share(share(observed.name, TAG, **options), observed, host)


def _seen(text: str) -> Observed:
    document = DomainXml(text)
    return Observed(document.name or "", persistent=document, run_state="stopped")


def _apply(planner: Planner, text: str, host: Host) -> Generator[str, None, str]:
    """The document after a task; a problem if the same task would change it again."""
    after = _after(planner(_seen(text), host)) or text
    if _after(planner(_seen(after), host)) is not None:
        yield "changed again by the second run"
    return after


def _after(plan: Plan) -> str | None:
    return next((action.document.text() for action in plan.actions if isinstance(action, Define)), None)


def _differences(before: str, after: str, places: tuple[str, ...]) -> Iterator[str]:
    allowed = re.compile("|".join(re.escape(place).replace(r"\*", ".*") for place in places))
    old, new = _statements(before), _statements(after)
    for sign, statements in (("-", old - new), ("+", new - old)):
        yield from (f"{sign}{place}={value}" for place, value in statements if not allowed.fullmatch(place))


@lru_cache(maxsize=8000)  # the documents of the corpus, which every check compares with
def _statements(text: str) -> Counter[tuple[str, str]]:
    """Everything that a document says, as (place, value), without the order."""
    statements: Counter[tuple[str, str]] = Counter()
    places = {None: ""}
    for element in etree.fromstring(text).iter("*"):
        place = places[element] = f"{places[element.getparent()]}/{_local(element.tag)}"
        statements.update((f"{place}@{_local(name)}", value) for name, value in element.attrib.items())
        texts = [element.text, *(child.tail for child in element)]
        statements[place, "".join(filter(None, texts)).strip()] += 1
    return statements


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _validity(document: Document, after: str) -> Iterator[str]:
    schema = document.release.schema
    root = etree.fromstring(after)
    # Containers and paravirtualised machines have no boot order and, some of them, no kernel of their own.
    if document.is_valid and root.findtext("os/type") == "hvm" and not schema.validate(root):
        yield f"no longer valid by libvirt's schema: {schema.error_log.last_error}"
