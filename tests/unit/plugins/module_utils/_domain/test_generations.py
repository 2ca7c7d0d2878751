# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt of each host generation makes of our domains reads back as what the task asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.forwards import resolve_forwards
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import disk_key, given_options
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_domain, plan_share
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.schema import SHARE, normalised
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.tests.unit.support import (
    FIXTURES,
    GENERATIONS,
    dumped_names,
    host_of,
    observed,
    options,
    share,
    steps,
    task_of,
)

DOMAINS = [
    pytest.param(generation, name, id=f"{generation}-{name}")
    for generation in GENERATIONS
    for name in dumped_names(generation)
]
RUNNING = [parameter for parameter in DOMAINS if "idmap" not in str(parameter.id)]


def documents(generation: str, name: str) -> list[DomainXml]:
    """The persistent definition, and the live one where the domain was started."""
    running = (FIXTURES / generation / f"{name}.live.xml").exists()
    seen = observed(generation, name, running=running)
    return [document for document in (seen.persistent, seen.live) if document is not None]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_host_is_the_one_that_the_tests_assume(generation: str) -> None:
    facts = json.loads((FIXTURES / generation / "host.json").read_text())
    host = host_of(generation, "store")
    assert (facts["libvirt"], facts["virtiofsd"]["legacy"]) == (host.libvirt, host.virtiofsd.legacy)
    assert facts["virtiofsd"]["path"] == host.virtiofsd.path


@pytest.mark.parametrize(("generation", "name"), DOMAINS)
def test_shares_read_back_as_they_were_asked_for(generation: str, name: str) -> None:
    wanted = {entry["tag"]: given_options(normalised(entry)) for entry in task_of(generation, name)["shares"]}
    for document in documents(generation, name):
        found = document.shares()
        assert {tag: {option: found[tag][option] for option in wanted[tag]} for tag in found} == wanted
        assert document.has_shared_memory()


@pytest.mark.parametrize(("generation", "name"), DOMAINS)
def test_options_read_back_as_they_were_asked_for(generation: str, name: str) -> None:
    wanted = task_of(generation, name)
    for document in documents(generation, name):
        found = document.options()
        assert {option: found[option] for option in found if wanted[option] is not None} == {
            option: wanted[option] for option in found if wanted[option] is not None
        }
        assert {disk_key(disk) for disk in document.disks()} == {disk_key(disk) for disk in wanted["disks"] or ()}


@pytest.mark.parametrize(("generation", "name"), DOMAINS)
def test_asking_a_stopped_domain_again_changes_nothing(generation: str, name: str) -> None:
    seen = observed(generation, name)
    wanted = resolve_forwards(task_of(generation, name), seen, lambda _address, _port: False)
    plan = plan_domain(wanted, seen, host_of(generation, name))
    assert (steps(plan), plan.restart_reasons) == ([], [])
    assert plan.before == plan.after


@pytest.mark.parametrize(("generation", "name"), RUNNING)
def test_asking_a_running_domain_again_changes_nothing(generation: str, name: str) -> None:
    seen = observed(generation, name, running=True)
    # Its own QEMU holds the ports that it forwards.
    wanted = resolve_forwards(task_of(generation, name, state="running"), seen, lambda _address, _port: True)
    plan = plan_domain(wanted, seen, host_of(generation, name))
    assert (steps(plan), plan.restart_reasons) == ([], [])
    assert plan.before == plan.after


@pytest.mark.parametrize(("generation", "name"), RUNNING)
def test_asking_for_every_share_alone_changes_nothing(generation: str, name: str) -> None:
    seen = observed(generation, name, running=True)
    for entry in task_of(generation, name)["shares"]:
        plan = plan_share({**share(name), **options(SHARE, entry)}, seen, host_of(generation, name))
        assert (steps(plan), plan.restart_reasons) == ([], []), entry["tag"]


@pytest.mark.parametrize("newer", ["libvirt-11.3", "libvirt-12"])
@pytest.mark.parametrize("name", dumped_names("libvirt-9.0"))
def test_a_domain_survives_an_upgrade_of_its_host(newer: str, name: str) -> None:
    """Shares that became read-only through a bind mount stay so: nothing changes under a user who changed nothing."""
    seen = observed("libvirt-9.0", name)
    old = host_of("libvirt-9.0", name)
    new = replace(host_of(newer, name), binds=old.binds, wrappers=old.wrappers, images=old.images)
    wanted = resolve_forwards(task_of("libvirt-9.0", name), seen, lambda _address, _port: False)
    assert steps(plan_domain(wanted, seen, new)) == []


@pytest.mark.parametrize("generation", GENERATIONS)
def test_what_makes_the_store_read_only(generation: str) -> None:
    text = (FIXTURES / generation / "store.persistent.xml").read_text()
    bound = "<source dir='/var/lib/keystone-virtiofs/domains/store/ro/%2Fnix%2Fstore'/>" in text
    assert (bound, "<readonly/>" in text) == ((True, False) if generation == "libvirt-9.0" else (False, True))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_reserved_ports_are_free(generation: str) -> None:
    assert observed(generation, "everything").persistent.free_ports() == 2
    assert observed(generation, "store").persistent.free_ports() == 4


@pytest.mark.parametrize("generation", GENERATIONS)
def test_plugged_shares_use_up_the_reserve(generation: str) -> None:
    seen = observed(generation, "plugged", running=True)
    assert (seen.persistent.free_ports(), seen.live.free_ports()) == (0, 0)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_share_is_plugged_without_the_place_it_has_elsewhere(generation: str) -> None:
    text = observed(generation, "store", running=True).live.share_text("nix-store-share")
    assert "nix-store-share" in text
    assert "<address" not in text
    assert "<alias" not in text
