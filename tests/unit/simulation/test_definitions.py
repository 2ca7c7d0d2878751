# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated libvirt makes of new domains what the real one made of them, as far as plans depend on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import Define, Observed
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.tests.unit import support
from ansible_collections.keystone.virtiofs.tests.unit.simulation import definitions

# Without firmware and volumes, which the simulated host does not have.
CASES = [(generation, "store") for generation in support.GENERATIONS]


def made(document: DomainXml, version: int) -> DomainXml:
    return DomainXml(definitions.text_of(definitions.complete(definitions.parse(document.text()), version)))


def simulated(generation: str, name: str) -> DomainXml:
    """The dumped domain as the simulated libvirt has it after the same task."""
    task, host = support.task_of(generation, name), support.host_of(generation, name)
    plan = plan_domain(task, Observed(name), replace(host, binds={}, wrappers={}))
    defined = next(action.document for action in plan.actions if isinstance(action, Define))
    document = made(defined, host.libvirt)
    document.reserve_ports(plan.after["hotplug_ports"])
    return made(document, host.libvirt)


def traits(document: DomainXml) -> dict[str, Any]:
    """What plans depend on."""
    options = {option: value for option, value in document.options().items() if option != "cpu"}
    return {
        "options": options,
        "shares": document.shares(),
        "interfaces": document.interfaces(),
        "shared memory": document.has_shared_memory(),
        "reserved": document.reserved_ports,
        "managed": document.is_managed,
        "free": document.free_ports(),
    }


@pytest.mark.parametrize(("generation", "name"), CASES)
def test_a_new_domain(generation: str, name: str) -> None:
    real = support.observed(generation, name).persistent
    assert real is not None
    assert traits(simulated(generation, name)) == traits(real)


@pytest.mark.parametrize(("generation", "name"), CASES)
def test_what_is_defined_again_stays(generation: str, name: str) -> None:
    once = simulated(generation, name)
    assert made(once, support.GENERATIONS[generation].libvirt).digest() == once.digest()


@pytest.mark.parametrize(("generation", "name"), CASES)
def test_a_running_domain(generation: str, name: str) -> None:
    real = support.observed(generation, name, running=True).live
    persistent = support.observed(generation, name).persistent
    assert real is not None
    assert persistent is not None
    virtiofsd = support.GENERATIONS[generation].virtiofsd
    assert virtiofsd is not None
    live = definitions.start(definitions.parse(persistent.text()), 7, virtiofsd.path)
    started = DomainXml(definitions.text_of(live))
    assert traits(started) == traits(real)
    assert started.share_paths() == real.share_paths()
    assert started.share_aliases() == real.share_aliases()
