# SPDX-License-Identifier: GPL-3.0-or-later
"""plan_share as tables: one share of a domain that exists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import (
    DetachShare,
    Host,
    Observed,
    Plan,
    Shutdown,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.planner import plan_share
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput, Unsupported
from ansible_collections.keystone.virtiofs.tests.unit.support import (
    BOOKWORM,
    PATCHED,
    TRIXIE,
    host_of,
    observed,
    share,
    steps,
)

DATA = {"tag": "data", "source": "/srv/data"}
STORE = {"tag": "nix-store-share", "source": "/nix/store"}
RESTART = ["NoteRestart", "Shutdown", "Start", "NoteRestart"]
GONE = {"tag": "nix-store-share", "state": "absent"}


def plan_for(
    name: str, *, generation: str = "libvirt-11.3", running: bool = False, host: Host | None = None, **given: Any
) -> Plan:
    seen = observed(generation, name, running=running)
    return plan_share(share(name, **given), seen, host or host_of(generation, name))


def without_shared_memory(seen: Observed) -> Observed:
    """The domain as it was before its first share."""
    for document in (seen.persistent, seen.live):
        if document is not None:
            document.remove_share("nix-store-share")
            document.root.remove(document.root.find("memoryBacking"))
    return seen


@pytest.mark.parametrize(
    ("given", "stopped", "running"),
    [
        (STORE, [], []),
        ({**STORE, "read_only": True, "queue_size": 1024}, [], []),
        (DATA, ["Define"], ["Define", "AttachShare"]),
        ({**DATA, "cache": "metadata"}, ["WriteWrapper", "Define"], ["WriteWrapper", "Define", "AttachShare"]),
        ({**STORE, "cache": "always"}, ["Define"], ["Define", "DetachShare", "AttachShare"]),
        (
            {**STORE, "read_only": False, "allow_unsafe_paths": True},
            ["Define"],
            ["Define", "DetachShare", "AttachShare"],
        ),
        ({**STORE, "source": "/srv/other"}, ["Define"], ["Define", "DetachShare", "AttachShare"]),
        ({"tag": "nix-store-share", "socket": "/run/s"}, ["Define"], ["Define", "DetachShare", "AttachShare"]),
        (GONE, ["Define"], ["Define", "DetachShare"]),
        ({"tag": "other", "state": "absent"}, [], []),
    ],
)
@pytest.mark.parametrize("policy", ["never", "if_required"])
def test_what_a_share_takes(policy: str, given: dict[str, Any], stopped: list[str], running: list[str]) -> None:
    for is_running, expected in ((False, stopped), (True, running)):
        plan = plan_for("store", running=is_running, restart=policy, replug=True, **given)
        assert (steps(plan), plan.restart_reasons) == (expected, [])
        assert plan.changed is (plan.before != plan.after)


@pytest.mark.parametrize(
    ("given", "running"),
    [
        ({**STORE, "read_only": False, "allow_unsafe_paths": True}, ["Define", "DetachShare", "AttachShare", "Unbind"]),
        # What is not given stays: the share is read-only from another directory as well.
        ({**STORE, "source": "/nix/var"}, ["BindReadOnly", "Define", "DetachShare", "AttachShare", "Unbind"]),
        ({**DATA, "read_only": True}, ["BindReadOnly", "Define", "AttachShare"]),
        (GONE, ["Define", "DetachShare", "Unbind"]),
    ],
)
def test_bind_mounts_come_before_and_go_after_their_use(given: dict[str, Any], running: list[str]) -> None:
    assert steps(plan_for("store", generation="libvirt-9.0", running=True, replug=True, **given)) == running
    stopped = [step for step in running if step not in ("AttachShare", "DetachShare")]
    assert steps(plan_for("store", generation="libvirt-9.0", **given)) == stopped


@pytest.mark.parametrize(
    ("policy", "expected", "reasons"),
    [
        (
            "never",
            ["Define"],
            1,
        ),
        ("if_required", ["Define", *RESTART], 0),
    ],
)
def test_a_changed_share_waits_for_a_restart(policy: str, expected: list[str], reasons: int) -> None:
    """The guest may run from it: replugged, the whole store is gone."""
    plan = plan_for("store", running=True, **STORE, queue_size=512, restart=policy)
    problem = (
        "share nix-store-share: queue_size differs in the running domain, and the guest may have the share mounted"
    )
    assert (steps(plan), plan.restart_reasons) == (expected, [problem] * reasons)


def test_a_share_without_its_daemon_waits_for_a_restart() -> None:
    host = replace(host_of("libvirt-11.3", "store"), dead_shares=frozenset({"nix-store-share"}))
    plan = plan_for("store", running=True, host=host, **STORE)
    assert (steps(plan), plan.restart_reasons) == ([], ["share nix-store-share: its virtiofsd has ended"])
    assert steps(plan_for("store", running=True, host=host, **STORE, replug=True)) == ["DetachShare", "AttachShare"]


def test_an_unplugged_share_of_an_upgraded_host_gives_its_bind_mount_back() -> None:
    """On libvirt 11 the element enforces read-only; what a changed share no longer needs is cleaned up."""
    host = replace(host_of("libvirt-9.0", "store"), libvirt=TRIXIE.libvirt, virtiofsd=TRIXIE.virtiofsd)
    changed = {**STORE, "cache": "always", "replug": True}
    plan = plan_for("store", generation="libvirt-9.0", running=True, host=host, **changed)
    assert steps(plan) == ["Define", "DetachShare", "AttachShare", "Unbind"]
    assert plan.after["share"]["read_only"]


@pytest.mark.parametrize(
    ("policy", "expected", "reasons"),
    [
        ("never", ["Define"], ["share data: the domain runs without shared memory"]),
        ("if_required", ["Define", *RESTART], []),
    ],
)
def test_the_first_share_of_a_running_domain(policy: str, expected: list[str], reasons: list[str]) -> None:
    seen = without_shared_memory(observed("libvirt-11.3", "store", running=True))
    plan = plan_share(share("store", **DATA, restart=policy), seen, TRIXIE)
    assert (steps(plan), plan.restart_reasons) == (expected, reasons)
    assert (plan.before["shared_memory"], plan.after["shared_memory"]) == (False, True)


@pytest.mark.parametrize(
    "given", [DATA, {"tag": "share1", "source": "/srv/1", "cache": "none"}, {"tag": "share1", "state": "absent"}]
)
@pytest.mark.parametrize("policy", ["never", "if_required"])
def test_a_libvirt_without_hot_plug(policy: str, given: dict[str, Any]) -> None:
    plan = plan_for("plugged", running=True, restart=policy, host=replace(TRIXIE, libvirt=7008000), **given)
    restarts = policy == "if_required"
    assert steps(plan) == ["Define", *(RESTART if restarts else [])]
    assert len(plan.restart_reasons) == (0 if restarts else 1)


def test_no_free_port() -> None:
    plan = plan_for("plugged", running=True, **DATA)
    assert steps(plan) == ["Define"]
    assert plan.restart_reasons == ["share data: the domain has no free pcie-root-port (hotplug_ports reserves some)"]


def test_a_machine_without_pcie_needs_no_ports() -> None:
    seen = observed("libvirt-11.3", "plugged", running=True)
    for document in (seen.persistent, seen.live):
        for controller in document.root.findall("devices/controller[@type='pci']"):
            if controller.get("index") == "0":
                controller.set("model", "pci-root")
            else:
                controller.getparent().remove(controller)
    assert steps(plan_share(share("plugged", **DATA), seen, TRIXIE)) == ["Define", "AttachShare"]


def test_how_a_domain_is_stopped_and_how_long_a_guest_may_hold_on() -> None:
    seen = without_shared_memory(observed("libvirt-11.3", "store", running=True))
    wanted = share("store", **DATA, restart="if_required", shutdown_timeout=9, force_stop=True)
    assert Shutdown(9, True) in plan_share(wanted, seen, TRIXIE).actions
    detach = plan_for("store", running=True, **GONE, detach_timeout=5).actions[-1]
    assert isinstance(detach, DetachShare)
    assert detach.timeout == 5
    changed = {**STORE, "queue_size": 64, "replug": True}
    detach = plan_for("store", running=True, **changed, detach_timeout=5).actions[1]
    assert isinstance(detach, DetachShare)
    assert detach.timeout == 5


# A definition and a run that differ: an earlier task was ended half-way, or waits for a restart.


def test_a_share_that_is_defined_but_not_plugged_is_plugged() -> None:
    seen = observed("libvirt-11.3", "store", running=True)
    seen.live.remove_share("nix-store-share")
    assert steps(plan_share(share("store", **STORE), seen, TRIXIE)) == ["AttachShare"]


def test_a_share_that_is_plugged_but_not_defined_is_defined() -> None:
    seen = observed("libvirt-11.3", "store", running=True)
    seen.persistent.remove_share("nix-store-share")
    assert steps(plan_share(share("store", **STORE), seen, TRIXIE)) == ["Define"]


@pytest.mark.parametrize("place", ["persistent", "live"])
def test_a_share_that_is_half_gone_goes(place: str) -> None:
    seen = observed("libvirt-11.3", "store", running=True)
    getattr(seen, place).remove_share("nix-store-share")
    expected = ["DetachShare"] if place == "persistent" else ["Define"]
    assert steps(plan_share(share("store", **GONE), seen, TRIXIE)) == expected


# Domains that are missing or transient.


def test_a_missing_domain() -> None:
    with pytest.raises(InvalidInput, match="domain vm, share data: the domain does not exist") as caught:
        plan_share(share(**DATA), Observed("vm"), TRIXIE)
    assert "keystone.virtiofs.domain" in caught.value.fix
    assert not plan_share(share(tag="data", state="absent"), Observed("vm"), TRIXIE).changed


@pytest.mark.parametrize(("given", "expected"), [(DATA, ["AttachShare"]), (GONE, ["DetachShare"])])
def test_a_transient_domain(given: dict[str, Any], expected: list[str]) -> None:
    seen = replace(observed("libvirt-11.3", "store", running=True), persistent=None)
    assert steps(plan_share(share("store", **given), seen, TRIXIE)) == expected


def test_a_transient_domain_is_not_restarted() -> None:
    seen = replace(without_shared_memory(observed("libvirt-11.3", "store", running=True)), persistent=None)
    with pytest.raises(InvalidInput, match="is transient: a restart would lose it"):
        plan_share(share("store", **DATA, restart="if_required"), seen, TRIXIE)


@pytest.mark.parametrize(
    ("given", "host", "cache"),
    [
        ({}, PATCHED, "store"),
        ({"source": "/var/lib/keystone-virtiofs/domains/store/view/store"}, PATCHED, "store"),
        ({}, TRIXIE, "auto"),
        ({}, replace(PATCHED, libvirt=10000000), "auto"),
        ({"cache": "auto"}, PATCHED, "auto"),
        ({"cache": "always"}, PATCHED, "always"),
        ({"source": "/srv/nix/store"}, PATCHED, "auto"),
        ({"source": "/nix"}, PATCHED, "auto"),
        ({"read_only": None}, PATCHED, "store"),  # the default for a store
        ({"read_only": False, "allow_unsafe_paths": True}, PATCHED, "auto"),
        ({"source": None, "socket": "/run/s", "read_only": None}, PATCHED, "auto"),
    ],
)
def test_a_new_read_only_share_of_a_store_gets_the_policy_for_stores(
    given: dict[str, Any], host: Host, cache: str
) -> None:
    plan = plan_for("store", host=host, **{"tag": "new", "source": "/nix/store", "read_only": True, **given})
    assert plan.after["share"]["cache"] == cache


def test_an_existing_share_keeps_its_cache_mode() -> None:
    plan = plan_for("store", host=PATCHED, **STORE, queue_size=512)
    assert [view["share"]["cache"] for view in (plan.before, plan.after)] == ["auto", "auto"]


# Refused.


@pytest.mark.parametrize("read_only", [None, False])
def test_a_writable_share_never_gets_the_policy_for_stores(read_only: bool | None) -> None:
    with pytest.raises(InvalidInput, match="cache: store requires read_only"):
        plan_for("store", host=PATCHED, **DATA, cache="store", read_only=read_only)


@pytest.mark.parametrize(
    ("given", "host", "problem"),
    [
        ({**DATA, "cache": "metadata"}, BOOKWORM, "needs virtiofsd >= 1.8.0"),
        ({**STORE, "cache": "store"}, TRIXIE, "needs a virtiofsd with the collection's patch"),
        ({**STORE, "cache": "store"}, replace(PATCHED, libvirt=10009000), "needs libvirt >= 11.0.0"),
        (DATA, replace(TRIXIE, virtiofsd=None), "found none"),
    ],
)
def test_what_the_host_cannot_do(given: dict[str, Any], host: Host, problem: str) -> None:
    with pytest.raises(Unsupported, match=problem):
        plan_for("store", host=host, **given)


@pytest.mark.parametrize(
    "given", [{"tag": "inner", "source": "/srv/my data/inner"}, {"tag": "outer", "source": "/srv"}]
)
def test_a_share_in_a_writable_share(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="exposes writable"):
        plan_for("everything", **given)


def test_a_share_can_go_from_a_host_without_virtiofsd() -> None:
    assert steps(plan_for("store", host=replace(TRIXIE, virtiofsd=None), **GONE)) == ["Define"]
