# SPDX-License-Identifier: GPL-3.0-or-later
"""Every operation of the worker protocol, by table: passed or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.nix.modules.keystone_store_proxy.protocol import Operation
from ansible_collections.keystone.virtiofs.tests.unit.store_proxy.support import (
    DERIVATION,
    LIBRARY,
    NOWHERE,
    OUTPUT,
    SECRET,
    SECRET_DERIVATION,
    SYSTEM,
    Client,
    Proxy,
    Value,
    encode,
)

REALISATION = '{"id": "%s", "outPath": "%s", "dependentRealisations": {}, "signatures": []}'
OPTIONS: list[Value] = [1, 1, 1, 7, 99, 0, 1, 0, 0, 0, 0, 1, 2, "builders", "ssh://evil", "sandbox", "false"]
# Each operation that passes: arguments, and the answer to a guest that is shown everything, or only a closure.
PASSED: dict[str, tuple[list[Value], list[Value], list[Value]]] = {
    "IsValidPath": ([SYSTEM], [1], [1]),
    "QueryReferrers": ([SYSTEM], [[SECRET]], [[]]),
    "AddTempRoot": ([SYSTEM], [1], [1]),
    "SetOptions": (OPTIONS, [], []),
    "QueryDerivationOutputs": ([DERIVATION], [[SYSTEM, SECRET]], [[SYSTEM]]),
    "QueryPathInfo": (
        [LIBRARY],
        [1, SECRET_DERIVATION, "0" * 64, [], 1, 128, 1, [], ""],
        [1, "", "0" * 64, [], 1, 128, 1, [], ""],
    ),
    "QueryDerivationOutputNames": ([DERIVATION], [["out", "doc", "dev"]], [["out", "doc", "dev"]]),
    "QueryPathFromHashPart": (["c" * 32], [SECRET], [""]),
    "QueryValidPaths": ([[SYSTEM, SECRET, NOWHERE], 1], [[SYSTEM, SECRET]], [[SYSTEM]]),
    "QueryValidDerivers": ([SYSTEM], [[DERIVATION, SECRET_DERIVATION]], [[DERIVATION]]),
    "QueryMissing": (
        [[f"{DERIVATION}!out,doc", LIBRARY]],
        [[DERIVATION, LIBRARY], [SECRET], [NOWHERE], 1, 2],
        [[DERIVATION, LIBRARY], [], [], 1, 2],
    ),
    "QueryDerivationOutputMap": (
        [DERIVATION],
        [3, "out", SYSTEM, "doc", SECRET, "dev", ""],
        [3, "out", SYSTEM, "doc", "", "dev", ""],
    ),
    "QueryRealisation": (
        [OUTPUT],
        [[REALISATION % (OUTPUT, Path(one).name) for one in (SYSTEM, SECRET)]],
        [[REALISATION % (OUTPUT, Path(SYSTEM).name)]],
    ),
}
NUMBERS = {operation.title: int(operation) for operation in Operation}
REFUSED = sorted(set(NUMBERS) - set(PASSED))
# All versions since that of Nix 2.15, and one to come. Older ones are refused.
VERSIONS = range(0x123, 0x129)
# Each subject outside of the closure, and one that does not exist.
OUTSIDE: dict[str, tuple[list[Value], list[Value]]] = {
    "IsValidPath": ([SECRET], [NOWHERE]),
    "QueryReferrers": ([SECRET], [NOWHERE]),
    "AddTempRoot": ([SECRET], [NOWHERE]),
    "QueryDerivationOutputs": ([SECRET_DERIVATION], [NOWHERE]),
    "QueryPathInfo": ([SECRET], [NOWHERE]),
    "QueryDerivationOutputNames": ([SECRET_DERIVATION], [NOWHERE]),
    "QueryPathFromHashPart": (["c" * 32], ["d" * 32]),
    "QueryValidPaths": ([[SECRET], 0], [[NOWHERE], 0]),
    "QueryValidDerivers": ([SECRET], [NOWHERE]),
    "QueryMissing": ([[SECRET_DERIVATION + "!out"]], [[NOWHERE]]),
    "QueryDerivationOutputMap": ([SECRET_DERIVATION], [NOWHERE]),
}


def everything(client: Client) -> bytes:
    """All that the proxy still sends, once the client has said that it is done."""
    client.connection.shutdown(1)
    return client.stream.read()


@pytest.mark.parametrize("version", VERSIONS, ids=hex)
@pytest.mark.parametrize("name", PASSED)
def test_an_operation_passes(proxy: Proxy, name: str, version: int) -> None:
    arguments, expected, _in_closure = PASSED[name]
    client = proxy.greeted(version)
    assert client.ask(NUMBERS[name], *arguments) == ""
    assert everything(client) == encode(*expected)
    assert name == "SetOptions" or NUMBERS[name] in proxy.daemon.asked


@pytest.mark.parametrize("version", VERSIONS, ids=hex)
@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_is_refused(proxy: Proxy, name: str, version: int) -> None:
    client = proxy.greeted(version)
    text = client.ask(NUMBERS[name], SYSTEM, [SYSTEM], 1)
    assert text == f"the operation {name} is refused: guests only read the host's store"
    assert client.is_closed()
    assert proxy.daemon.asked == []


@pytest.mark.parametrize("number", sorted(({*range(100), 2**32, 2**63, 2**64 - 1}) - set(NUMBERS.values())))
def test_a_number_without_an_operation_is_refused(proxy: Proxy, number: int) -> None:
    client = proxy.greeted()
    assert client.ask(number) == f"the operation number {number} is refused: guests only read the host's store"
    assert client.is_closed()
    assert proxy.daemon.asked == []


@pytest.mark.parametrize("name", PASSED)
def test_an_answer_names_no_path_outside_of_the_closure(closure_only: Proxy, name: str) -> None:
    arguments, _everything, expected = PASSED[name]
    client = closure_only.greeted()
    assert client.ask(NUMBERS[name], *arguments) == ""
    assert everything(client) == encode(*expected)


@pytest.mark.parametrize("name", sorted(set(PASSED) - {"SetOptions", "QueryRealisation"}))
def test_a_path_outside_of_the_closure_looks_as_if_it_did_not_exist(closure_only: Proxy, name: str) -> None:
    answers = []
    for arguments in OUTSIDE[name]:
        client = closure_only.greeted()
        answers.append((client.ask(NUMBERS[name], *arguments), everything(client)))
    assert answers[0] == answers[1]
    assert closure_only.daemon.rooted == []


def test_a_path_with_a_reference_outside_of_the_closure_is_not_valid(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, [SYSTEM])
    proxy.daemon.start()
    client = proxy.greeted()
    assert client.ask(NUMBERS["QueryPathInfo"], SYSTEM) == ""
    assert client.number() == 0


def test_an_error_of_the_daemon_names_nothing_and_the_connection_goes_on(proxy: Proxy) -> None:
    client = proxy.greeted()
    text = client.ask(NUMBERS["QueryDerivationOutputMap"], SYSTEM)
    assert text == "the host's Nix has no answer; the log of keystone-store-proxy on the host says why"
    assert f"no answer about {SECRET}" in proxy.log[0]
    assert client.ask(NUMBERS["IsValidPath"], SYSTEM) == ""


@pytest.mark.parametrize("version", [0x10A, 0x115, 0x122, 0x223])
def test_an_old_nix_in_the_guest_is_refused(proxy: Proxy, version: int) -> None:
    client = proxy.connect()
    client.greet(version) if version < 0x123 else client.send(0x6E697863, version)
    if version > 0x123:
        client.number(), client.number()
    assert client.outcome().startswith("the guest's Nix is too old: protocol ")


@pytest.mark.parametrize(
    ("version", "trust", "reason"),
    [(0x122, 2, "too old: protocol 1.34"), (0x223, 2, "too old"), (0x126, 1, "trusted-users")],
)
def test_a_daemon_that_cannot_be_used(proxy: Proxy, version: int, trust: int, reason: str) -> None:
    proxy.daemon.version, proxy.daemon.trust = version, trust
    client = proxy.greeted()
    text = "the host's Nix daemon cannot be used; the log of keystone-store-proxy on the host says why"
    assert client.ask(NUMBERS["IsValidPath"], SYSTEM) == text
    assert reason in proxy.log[0]
    assert client.is_closed()


def test_without_a_daemon(tmp_path: Path) -> None:
    client = Proxy(tmp_path).greeted()
    assert "the host's Nix daemon cannot be used" in client.ask(NUMBERS["IsValidPath"], SYSTEM)


def test_what_is_valid_is_rooted_once_and_before_it_counts(proxy: Proxy) -> None:
    client = proxy.greeted()
    for _turn in range(2):
        assert client.ask(NUMBERS["IsValidPath"], SYSTEM) == ""
        assert client.number() == 1
    assert proxy.daemon.rooted == [SYSTEM]
    assert proxy.daemon.asked == [19, 1, 11, 1, 1]


def test_a_path_that_is_collected_before_its_root_is_not_valid(proxy: Proxy) -> None:
    def collect(operation: int) -> None:
        if operation == NUMBERS["AddTempRoot"]:
            proxy.daemon.valid.discard(SYSTEM)

    proxy.daemon.before_answer = collect
    client = proxy.greeted()
    assert client.ask(NUMBERS["IsValidPath"], SYSTEM) == ""
    assert client.number() == 0
