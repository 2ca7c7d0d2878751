# SPDX-License-Identifier: GPL-3.0-or-later
"""Two machines change one domain over a remote URI, where no lock is in reach: nothing is lost without an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.controller import Controller
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import GatewayError
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import gateway
from ansible_collections.keystone.virtiofs.tests.unit import support
from ansible_collections.keystone.virtiofs.tests.unit.simulation import definitions
from ansible_collections.keystone.virtiofs.tests.unit.simulation.host import SimulatedHost, simulated_host

REMOTE = "qemu+ssh://root@hypervisor/system"
LIMIT = 10  # seconds for the other thread


@pytest.fixture
def host() -> Iterator[SimulatedHost]:
    with simulated_host() as host:
        host.run("domain", support.domain("vm", memory=128, virt_type="qemu"))
        yield host


def change(**given: Any) -> dict[str, Any]:
    with Controller(REMOTE, check_mode=False) as controller:
        return controller.apply_domain(support.domain("vm", **given))


def definition(host: SimulatedHost) -> str:
    return definitions.text_of(host.libvirt.domains["vm"].persistent)


def between_comparison_and_definition(host: SimulatedHost, what: Callable[[], object]) -> None:
    """Let something happen at the next definition, which has been compared already."""
    define = host.libvirt.defineXMLFlags

    def overtaken(text: str, flags: int) -> Any:
        host.libvirt.defineXMLFlags = define  # type: ignore[method-assign]
        what()
        return define(text, flags)

    host.libvirt.defineXMLFlags = overtaken  # type: ignore[method-assign]


def test_a_definition_that_was_changed_since_it_was_read_stays(host: SimulatedHost) -> None:
    overtaken = iter([False])
    real = Controller._plan

    def plan_and_be_overtaken(self: Controller, *arguments: Any) -> Any:
        plan = real(self, *arguments)
        if not next(overtaken, True):
            change(vcpus=1)
        return plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Controller, "_plan", plan_and_be_overtaken)
        with pytest.raises(GatewayError, match="was changed by another tool while this task was running"):
            change(memory=256)
    assert ">131072</memory>" in definition(host)
    assert ">1</vcpu>" in definition(host)


def test_a_change_that_is_overwritten_at_the_last_moment_is_reported(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One machine compares, the other compares and defines, the first defines: the other's change is gone."""
    compared, may_define = threading.Event(), threading.Event()
    between_comparison_and_definition(host, lambda: (compared.set(), may_define.wait(LIMIT)))
    first = threading.Thread(target=change, kwargs={"memory": 256})
    first.start()
    assert compared.wait(LIMIT)

    def settle(_gateway: object) -> None:
        if threading.current_thread() is not first:
            may_define.set()
            first.join(LIMIT)

    monkeypatch.setattr(gateway.Gateway, "settle", settle)
    with pytest.raises(GatewayError, match="another tool has overwritten the definition"):
        change(vcpus=1)
    assert ">262144</memory>" in definition(host)
    assert change(vcpus=1)["changed"]
    assert ">262144</memory>" in definition(host)
    assert ">1</vcpu>" in definition(host)


def test_a_definition_that_takes_too_long_is_reported(host: SimulatedHost) -> None:
    """Another machine may have confirmed its change in the meantime."""
    between_comparison_and_definition(host, lambda: gateway.time.sleep(gateway.SETTLING + 1))
    with pytest.raises(GatewayError, match="may have overwritten the definition of another machine's task"):
        change(memory=256)


def test_changes_one_after_the_other_are_not_reported(host: SimulatedHost) -> None:
    assert change(memory=256)["changed"]
    assert change(vcpus=1)["changed"]
    assert not change(memory=256, vcpus=1)["changed"]
