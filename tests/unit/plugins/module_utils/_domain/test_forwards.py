# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports of the host are forwarded."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.forwards import resolve_forwards
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import Observed
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.tests.unit.support import domain, observed

SSH = {"host_port": 22220, "guest_port": 22}
NEXT = {**SSH, "next_free": True}


def resolved(forwards: list[dict[str, Any]], taken: set[int], seen: Observed | None = None) -> list[int]:
    wanted = domain("store", interfaces=[{"type": "user", "forwards": forwards}])
    found = resolve_forwards(wanted, seen or Observed("store"), lambda _address, port: port in taken)
    return [forward["host_port"] for forward in found["interfaces"][0]["forwards"]]


@pytest.mark.parametrize(
    ("forwards", "taken", "expected"),
    [
        ([SSH], set(), [22220]),
        ([NEXT], set(), [22220]),
        ([NEXT], {22220, 22221}, [22222]),
        ([NEXT, {**NEXT, "guest_port": 80}], set(), [22220, 22221]),
        ([NEXT, {**NEXT, "guest_port": 80}], {22221}, [22220, 22222]),
        ([SSH, {**NEXT, "guest_port": 80}], set(), [22220, 22221]),
        ([NEXT, {**SSH, "guest_port": 80}], set(), [22221, 22220]),
        ([NEXT, {**SSH, "host_port": 8022}], set(), [22220, 8022]),
    ],
)
def test_ports_of_a_new_domain(forwards: list[dict[str, Any]], taken: set[int], expected: list[int]) -> None:
    assert resolved(forwards, taken) == expected


@pytest.mark.parametrize(("running", "taken"), [(True, {22220, 8022}), (False, set())])
def test_two_ports_of_one_port_of_the_guest_are_kept(running: bool, taken: set[int]) -> None:
    seen = observed("libvirt-11.3", "store", running=running)
    both = [NEXT, {**SSH, "host_port": 8022}]
    interfaces = [{"forwards": [{**forward, "address": "127.0.0.1"} for forward in both]}]
    seen = replace(seen, persistent=SimpleNamespace(interfaces=lambda: interfaces))  # type: ignore[arg-type]
    assert resolved(both, taken, seen) == [22220, 8022]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    ("forwards", "taken", "when_running", "when_stopped"),
    [
        # The dumped domain forwards 127.0.0.1:22220 to 22.
        ([NEXT], {22220}, [22220], [22221]),
        ([NEXT], set(), [22220], [22220]),
        ([{**NEXT, "host_port": 3000}], set(), [22220], [22220]),
        ([{**NEXT, "host_port": 3000, "address": "127.0.0.2"}], set(), [3000], [3000]),
        ([SSH], {22220}, [22220], None),
    ],
)
def test_ports_of_a_domain_that_has_some(
    running: bool,
    forwards: list[dict[str, Any]],
    taken: set[int],
    when_running: list[int],
    when_stopped: list[int] | None,
) -> None:
    seen = observed("libvirt-11.3", "store", running=running)
    expected = when_running if running else when_stopped
    if expected is None:
        with pytest.raises(InvalidInput):
            resolved(forwards, taken, seen)
    else:
        assert resolved(forwards, taken, seen) == expected


@pytest.mark.parametrize(
    ("forwards", "taken", "problem"),
    [
        ([SSH], {22220}, "port 22220 on 127.0.0.1 is taken"),
        ([SSH, {**SSH, "guest_port": 80}], set(), "port 22220 on 127.0.0.1 is taken"),
        ([{**NEXT, "host_port": 65535}], {65535}, "no port from 65535 up is free"),
    ],
)
def test_a_taken_port(forwards: list[dict[str, Any]], taken: set[int], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as caught:
        resolved(forwards, taken)
    assert caught.value.domain == "store"
    assert caught.value.fix


def test_without_forwards_nobody_asks_for_ports() -> None:
    def never(_address: str, _port: int) -> bool:
        raise AssertionError

    for interfaces in (None, [], [{"type": "user"}, {}]):
        wanted = domain(interfaces=interfaces)
        assert resolve_forwards(wanted, Observed("vm"), never) == wanted
