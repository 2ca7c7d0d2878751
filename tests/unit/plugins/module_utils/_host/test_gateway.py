# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway makes of libvirt's answers that the test driver never gives."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import GatewayError, WaitTimeout
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import ports
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.gateway import Gateway

SHARE = "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv'/><target dir='data'/></filesystem>"
OS = "<os><type>hvm</type></os>"
DOMAIN = f"<domain type='test'><name>vm</name><memory>65536</memory>{OS}<devices>{SHARE}</devices></domain>"


def refusal(message: str, code: int = libvirt.VIR_ERR_INTERNAL_ERROR) -> libvirt.libvirtError:
    error = libvirt.libvirtError("a test")
    error.err = (code, libvirt.VIR_FROM_QEMU, message, 2, "", None, None, -1, -1)
    return error


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("internal error: Device fs0 is already in the process of unplug", WaitTimeout),
        ("internal error: Bus 'pcie.0' does not support hotplugging", GatewayError),
    ],
)
def test_a_second_request_to_unplug_waits_for_the_first(
    monkeypatch: pytest.MonkeyPatch, message: str, expected: type[Exception]
) -> None:
    def refuse(_domain: object, _xml: str, _flags: int) -> None:
        raise refusal(message)

    monkeypatch.setattr(libvirt.virDomain, "detachDeviceFlags", refuse)
    with Gateway("test:///default") as gateway:
        gateway._connection.createXML(DOMAIN)
        with pytest.raises(expected):
            gateway.detach_share("vm", "data", "<filesystem/>", 0)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(libvirt.VIR_ERR_OPERATION_INVALID, WaitTimeout), (libvirt.VIR_ERR_INTERNAL_ERROR, GatewayError)],
)
def test_a_domain_that_is_powering_off_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    """libvirt calls such a domain active, and refuses to shut it down, because it is not running."""

    def refuse(_domain: object) -> None:
        raise refusal("Requested operation is not valid: domain is not running", code)

    monkeypatch.setattr(libvirt.virDomain, "shutdown", refuse)
    with Gateway("test:///default") as gateway, pytest.raises(expected):
        gateway.shutdown("test", 0, force=False)


def test_an_agent_that_names_another_machine_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest gives its lease back, and its agent names the host, or a neighbour."""

    def answer(_domain: object, source: int) -> dict[str, Any]:
        reported = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.7", "192.0.2.9"]
        is_agent = source == libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
        return {"eth0": {"addrs": [{"addr": text, "type": 0} for text in reported]}} if is_agent else {}

    monkeypatch.setattr(libvirt.virDomain, "interfaceAddresses", answer)
    monkeypatch.setattr(libvirt.virNetwork, "DHCPLeases", lambda _network: [{"ipaddr": "192.0.2.7"}])
    monkeypatch.setattr(ports, "is_own", lambda address: address == "192.0.2.1")
    with Gateway("test:///default") as gateway:
        assert gateway.addresses("test") == ["192.0.2.9"]
