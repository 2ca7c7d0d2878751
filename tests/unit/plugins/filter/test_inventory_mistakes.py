# SPDX-License-Identifier: GPL-3.0-or-later
"""One sentence for each mistake in an inventory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible.errors import AnsibleUndefinedVariable

from ansible_collections.keystone.virtiofs.plugins.filter.inventory_mistakes import inventory_mistakes

HOSTS, GUESTS = ["virtiofs_hosts"], ["virtiofs_guests"]
BOTH = HOSTS + GUESTS
XML = "<domain><devices><interface type='network'><mac address='{}'/></interface></devices></domain>"


class Undefined:
    """A variable whose template refers to an undefined one, as ansible-core 2.19 and later pass it."""

    def __str__(self) -> str:
        raise AnsibleUndefinedVariable("'place' is undefined")


def mistakes(
    guests: dict[str, dict[str, Any]],
    *,
    hosts: tuple[str, ...] = ("alpha", "beta"),
    works_on: Sequence[str] = tuple(BOTH),
    limit: str = "",
    others: dict[str, list[str]] | None = None,
) -> list[str]:
    groups = {
        "all": [*hosts, *guests],
        "virtiofs_hosts": list(hosts),
        "virtiofs_guests": list(guests),
        **(others or {}),
    }
    hostvars = {**{host: {} for host in hosts}, **guests}
    return inventory_mistakes(hostvars, groups, list(works_on), limit.split(",") if limit else groups["all"], limit)


@pytest.mark.parametrize("works_on", [HOSTS, GUESTS, BOTH])
def test_an_inventory_may_be_right(works_on: list[str]) -> None:
    guests = {
        "web": {"virtiofs_host": "alpha", "vm_xml": XML.format("52:54:00:00:00:01")},
        "database": {"virtiofs_host": "alpha", "vm_xml": XML.format("52:54:00:00:00:02")},
        "web2": {"virtiofs_host": "beta", "vm_name": "web", "vm_xml": XML.format("52:54:00:00:00:01")},
        "web3": {"virtiofs_host": "alpha", "vm_name": "web", "vm_uri": "qemu:///session"},
    }
    assert mistakes(guests, works_on=works_on) == []


@pytest.mark.parametrize(
    ("guest", "message"),
    [
        ({}, "guest web has no virtiofs_host; set virtiofs_host to the name of its host in virtiofs_hosts"),
        (
            {"virtiofs_host": ""},
            "guest web has no virtiofs_host; set virtiofs_host to the name of its host in virtiofs_hosts",
        ),
        (
            {"virtiofs_host": "alhpa"},
            "guest web names host alhpa, which is not in virtiofs_hosts (similar: alpha)",
        ),
        ({"virtiofs_host": 7}, "guest web names host 7, which is not in virtiofs_hosts"),
        ({"virtiofs_host": "web"}, "guest web names host web, which is not in virtiofs_hosts"),
        ({"virtiofs_host": Undefined()}, "guest web: virtiofs_host cannot be evaluated: 'place' is undefined"),
        ({"virtiofs_host": "{{ place }}"}, "guest web: virtiofs_host cannot be evaluated: {{ place }}"),
    ],
)
@pytest.mark.parametrize("works_on", [GUESTS, BOTH])
def test_a_guest_names_its_host(guest: dict[str, Any], message: str, works_on: list[str]) -> None:
    assert mistakes({"web": guest}, works_on=works_on) == [message]
    assert mistakes({"web": guest}, works_on=HOSTS) == []


def test_each_mistake_has_its_message() -> None:
    guests: dict[str, dict[str, Any]] = {
        "web": {},
        "database": {"virtiofs_host": "gamma"},
        "build": {"virtiofs_host": "beta"},
    }
    assert [message.split()[1] for message in mistakes(guests)] == ["web", "database"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("vm_name", "site", "the same vm_name site"),
        ("vm_xml", XML.format("52:54:00:AA:00:01"), "the same MAC address 52:54:00:aa:00:01"),
        ("vm_xml", XML.format("52:54:00:aa:00:01").replace("'", '"'), "the same MAC address 52:54:00:aa:00:01"),
        ("vm_forwards", [{"host_port": 8080, "guest_port": 80}], "the same vm_forwards port 127.0.0.1:8080"),
    ],
)
def test_two_guests_of_a_host_differ(option: str, value: Any, message: str) -> None:
    guests = {name: {"virtiofs_host": "alpha", option: value} for name in ("web", "database")}
    sentence = f"guests web and database on host alpha have {message}; give each its own"
    assert mistakes(guests) == [sentence]
    assert mistakes(guests, works_on=GUESTS, limit="database") == [sentence]
    assert mistakes(guests, limit="beta") == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"host_port": 8080}, {"host_port": 8081}),
        ({"host_port": 8080}, {"host_port": 8080, "next_free": True}),
        ({"host_port": 8080}, {"host_port": 8080, "address": "192.0.2.1"}),
    ],
)
def test_ports_of_a_host_may_differ(first: dict[str, Any], second: dict[str, Any]) -> None:
    guests = {"web": {"vm_forwards": [first]}, "database": {"vm_forwards": [second]}}
    assert mistakes({name: {"virtiofs_host": "alpha", **guest} for name, guest in guests.items()}) == []


@pytest.mark.parametrize(("option", "value"), [("tag", "project"), ("mount_point", "/srv/project")])
def test_the_shares_of_a_guest_differ(option: str, value: str) -> None:
    shares = [{"source": "/srv/a", option: value}, {"source": "/srv/b", option: value}, {"source": "/srv/c"}]
    guests = {name: {"virtiofs_host": "alpha", "vm_extra_shares": shares} for name in ("web", "database")}
    sentence = f"guest web has several vm_extra_shares with {option} {value}; give each its own"
    assert mistakes(guests, works_on=GUESTS, limit="web") == [sentence]


@pytest.mark.parametrize("value", [Undefined(), "text", [7], [[{"tag": "a"}]], {"tag": "a"}, None])
@pytest.mark.parametrize("option", ["vm_forwards", "vm_extra_shares"])
def test_a_list_that_is_none_is_left_to_the_role(option: str, value: Any) -> None:
    guests = {name: {"virtiofs_host": "alpha", option: value} for name in ("web", "database")}
    assert mistakes(guests) == []


def test_the_name_of_a_guest_is_that_of_its_domain() -> None:
    guests = {"web": {"virtiofs_host": "alpha"}, "database": {"virtiofs_host": "alpha", "vm_name": "web"}}
    assert mistakes(guests) == ["guests web and database on host alpha have the same vm_name web; give each its own"]


def test_names_count_per_connection() -> None:
    guests = {name: {"virtiofs_host": "alpha", "vm_name": "a", "vm_uri": "qemu:///session"} for name in "bc"}
    assert mistakes(guests) == [
        "guests b and c on host alpha have the same vm_uri qemu:///session and vm_name a; give each its own"
    ]


def test_a_variable_that_cannot_be_evaluated_is_left_to_the_role() -> None:
    assert mistakes({"web": {"virtiofs_host": "alpha", "vm_name": Undefined()}}) == []


@pytest.mark.parametrize(
    ("works_on", "hosts", "guests", "others", "messages"),
    [
        (BOTH, (), {}, {}, ["virtiofs_hosts", "virtiofs_guests"]),
        (GUESTS, (), {}, {}, ["virtiofs_guests"]),
        (HOSTS, ("alpha",), {}, {}, []),
        (
            GUESTS,
            ("alpha",),
            {},
            {"virtiofs_guest": ["web"]},
            ["virtiofs_guests is missing or empty (similar: virtiofs_guest)"],
        ),
        (GUESTS, (), {"web": {"virtiofs_host": "alpha"}}, {}, ["names host alpha, which is not in virtiofs_hosts"]),
    ],
)
def test_the_groups_have_members(
    works_on: list[str],
    hosts: tuple[str, ...],
    guests: dict[str, Any],
    others: dict[str, list[str]],
    messages: list[str],
) -> None:
    found = mistakes(guests, hosts=hosts, works_on=works_on, others=others)
    assert len(found) == len(messages)
    assert all(message in sentence for message, sentence in zip(messages, found, strict=True))


@pytest.mark.parametrize(
    ("works_on", "limit", "messages"),
    [
        (BOTH, "web,alpha", []),
        (BOTH, "alpha", []),
        (BOTH, "web", ["guest web is on host alpha, which --limit web leaves out; use --limit web,alpha"]),
        (BOTH, "printer", ["--limit printer names no member of virtiofs_hosts or virtiofs_guests; "]),
        (GUESTS, "web", []),
        (GUESTS, "alpha", ["--limit alpha names no member of virtiofs_guests; "]),
        (HOSTS, "web", ["--limit web names no member of virtiofs_hosts; "]),
    ],
)
def test_the_limit_leaves_what_the_playbook_works_on(works_on: list[str], limit: str, messages: list[str]) -> None:
    guests = {"web": {"virtiofs_host": "alpha"}, "broken": {}}
    found = mistakes(guests, works_on=works_on, limit=limit)
    assert len(found) == len(messages)
    assert all(sentence.startswith(message) for message, sentence in zip(messages, found, strict=True))
