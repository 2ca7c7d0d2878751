# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory: hosts, variables and groups out of domains, of real libvirt's test driver and of faked hypervisors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import get_docstring

from ansible_collections.keystone.virtiofs.plugins.inventory import domains
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import GatewayError

SHARE = {"tag": "nix-store-share", "source": "/nix/store", "read_only": True}
MARKED = """
<domain type='test'>
  <name>marked</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <metadata><k:domain xmlns:k='https://github.com/ncrmro/keystone/virtiofs' managed='marked'
    uuid='11111111-2222-3333-4444-555555555555'/></metadata>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  <devices>
    <filesystem type='mount'>
      <driver type='virtiofs'/><source dir='/nix/store'/><target dir='nix-store-share'/>
    </filesystem>
  </devices>
</domain>
"""


@pytest.fixture(scope="session", autouse=True)
def _options() -> None:
    """What Ansible's plugin loader does with the documentation: it defines the options."""
    documentation = get_docstring(domains.__file__, fragment_loader)[0]
    constants.config.initialize_plugin_configuration_definitions(
        "inventory", domains.InventoryModule.NAME, documentation["options"]
    )


@pytest.fixture
def parse(tmp_path: Path) -> Any:
    def parse_config(refresh: bool = False, into: InventoryData | None = None, **config: Any) -> InventoryData:
        file = tmp_path / "domains.yml"
        file.write_text(yaml.safe_dump({"plugin": domains.InventoryModule.NAME, **config}))
        plugin, inventory = domains.InventoryModule(), into or InventoryData()
        plugin._load_name = plugin.ansible_name = plugin.NAME
        plugin._redirected_names = [plugin.NAME]
        assert plugin.verify_file(str(file))
        plugin.parse(inventory, DataLoader(), str(file), cache=not refresh)
        if config.get("cache"):
            plugin.update_cache_if_changed()
        return inventory

    return parse_config


def facts(name: str, **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "uuid": f"uuid-of-{name}",
        "state": "running",
        "ssh": None,
        "managed": True,
        "shares": [],
        **other,
    }


@pytest.fixture
def hypervisors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Faked hypervisors: their domains by URI."""
    known: dict[str, list[dict[str, Any]]] = {}

    class FakeController:
        def __init__(self, uri: str, check_mode: bool) -> None:
            assert check_mode
            self.uri = uri

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_exception: object) -> None:
            pass

        def describe_domains(self, names: None) -> Mapping[str, Any]:
            if self.uri not in known:
                raise GatewayError(f"cannot connect to {self.uri}", fix="Is libvirtd running?")
            return {domain["name"]: domain for domain in known[self.uri]}

    monkeypatch.setattr(domains, "Controller", FakeController)
    return known


def members(inventory: InventoryData) -> dict[str, list[str]]:
    return {name: sorted(host.name for host in group.hosts) for name, group in inventory.groups.items() if group.hosts}


def variables(inventory: InventoryData, host: str) -> dict[str, Any]:
    found: dict[str, Any] = inventory.hosts[host].get_vars()
    return found


# On libvirt's test driver.


@pytest.fixture
def _test_driver() -> Iterator[None]:
    """libvirt's test driver with one more domain; it keeps its domains as long as there is a connection."""
    connection = libvirt.open("test:///default")
    connection.defineXML(MARKED)
    yield
    connection.lookupByName("marked").undefine()
    connection.close()


@pytest.mark.usefixtures("_test_driver")
def test_domains_of_libvirt(parse: Any) -> None:
    inventory = parse(uris=["test:///default"])
    assert members(inventory) == {
        "libvirt_running": ["test"],
        "libvirt_stopped": ["marked"],
        "virtiofs_guests": ["marked"],
    }
    marked, test = variables(inventory, "marked"), variables(inventory, "test")
    assert marked["keystone_shares"][0]["tag"] == "nix-store-share"
    assert "ansible_host" not in marked
    assert (test["ansible_host"], test["ansible_port"]) == ("192.168.122.3", 22)
    assert (test["keystone_memory"], test["keystone_uri"], test["virtiofs_host"]) == (
        8192,
        "test:///default",
        "localhost",
    )


@pytest.mark.usefixtures("_test_driver")
@pytest.mark.parametrize(
    ("config", "hosts"),
    [
        ({}, {"marked", "test"}),
        ({"states": ["running"]}, {"test"}),
        ({"states": ["paused"]}, set()),
        ({"managed_only": True}, {"marked"}),
        ({"managed_only": True, "states": ["running"]}, set()),
        ({"qualified_names": True}, {"marked.localhost", "test.localhost"}),
    ],
)
def test_filters(parse: Any, config: dict[str, Any], hosts: set[str]) -> None:
    assert parse(uris=["test:///default"], **config).hosts.keys() == hosts


# On faked hypervisors.


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "qemu:///system",
            {
                "ansible_host": "127.0.0.1",
                "ansible_port": 22220,
                "ansible_ssh_common_args": "-o HostKeyAlias=uuid-of-web",
                "virtiofs_host": "localhost",
            },
        ),
        (
            "qemu+ssh://root@hv1:2222/system?no_tty=1",
            {
                "ansible_host": "127.0.0.1",
                "ansible_port": 22220,
                "ansible_ssh_common_args": "-o HostKeyAlias=uuid-of-web -o ProxyJump=root@hv1:2222",
                "virtiofs_host": "hv1",
            },
        ),
        # 127.0.0.1 is the hypervisor's; without ssh there is no way through it.
        ("qemu+tls://hv1/system", {"virtiofs_host": "hv1"}),
    ],
)
def test_how_a_guest_is_reached(parse: Any, hypervisors: dict[str, Any], uri: str, expected: dict[str, Any]) -> None:
    hypervisors[uri] = [facts("web", ssh={"host": "127.0.0.1", "port": 22220})]
    found = variables(parse(uris=[uri]), "web")
    assert {name: value for name, value in found.items() if name.startswith(("ansible_", "virtiofs_"))} == expected


def test_a_name_on_two_hypervisors_is_an_error_unless_qualified(parse: Any, hypervisors: dict[str, Any]) -> None:
    uris = ["qemu+ssh://hv1/system", "qemu+ssh://hv2/system"]
    hypervisors.update({uri: [facts("web")] for uri in uris})
    with pytest.raises(AnsibleParserError, match=r"web exists at .*hv1/system and at .*hv2/system.*qualified_names"):
        parse(uris=uris)
    assert parse(uris=uris, qualified_names=True).hosts.keys() == {"web.hv1", "web.hv2"}


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "hv1", "db", "all", "servers"])
def test_a_domain_does_not_take_the_place_of_another_host(parse: Any, hypervisors: dict[str, Any], name: str) -> None:
    uri = "qemu+ssh://root@hv1/system"
    hypervisors[uri] = [facts(name, ssh={"host": "192.0.2.66", "port": 22})]
    static = InventoryData()
    static.add_group("servers")
    static.add_host("db", "servers")
    with pytest.raises(AnsibleParserError, match=f"domain {name} .*place of .* {name} .*qualified_names"):
        parse(into=static, uris=[uri])
    assert static.hosts.keys() == {"db"}
    assert f"{name}.hv1" in parse(into=static, uris=[uri], qualified_names=True).hosts


def test_a_name_that_is_filtered_out_on_one_hypervisor_is_no_error(parse: Any, hypervisors: dict[str, Any]) -> None:
    uris = ["qemu+ssh://hv1/system", "qemu+ssh://hv2/system"]
    hypervisors.update({uris[0]: [facts("web")], uris[1]: [facts("web", state="stopped")]})
    assert variables(parse(uris=uris, states=["running"]), "web")["virtiofs_host"] == "hv1"


def test_an_unreachable_hypervisor_is_an_error_with_the_fix(parse: Any, hypervisors: dict[str, Any]) -> None:
    hypervisors["qemu:///system"] = [facts("web")]
    with pytest.raises(AnsibleParserError, match=r"cannot connect to qemu:///session\. Is libvirtd running\?"):
        parse(uris=["qemu:///system", "qemu:///session"])


def test_a_missing_library_is_an_error_that_names_it(parse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "LIBVIRT_IMPORT_ERROR", "Traceback")
    with pytest.raises(AnsibleParserError, match="libvirt-python"):
        parse()


def test_an_unknown_state_is_refused(parse: Any) -> None:
    with pytest.raises(AnsibleError, match="runing"):
        parse(states=["runing"])


def test_constructed_variables_and_groups(parse: Any, hypervisors: dict[str, Any]) -> None:
    hypervisors["qemu:///system"] = [facts("web", shares=[SHARE], memory=8192), facts("tiny", memory=512)]
    inventory = parse(
        compose={"ansible_user": "'root'"},
        groups={"big": "keystone_memory >= 8192"},
        keyed_groups=[{"key": "keystone_shares | map(attribute='tag')", "prefix": "share"}],
    )
    found = members(inventory)
    assert (found["big"], found["share_nix_store_share"]) == (["web"], ["web"])
    assert variables(inventory, "tiny")["ansible_user"] == "root"


@pytest.mark.parametrize(
    "broken",
    [
        {"compose": {"x": "nowhere.y"}},
        {"groups": {"x": "nowhere.y"}},
        {"keyed_groups": [{"key": "nowhere.y"}]},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_strict_makes_a_broken_expression_an_error(
    parse: Any, hypervisors: dict[str, Any], broken: dict[str, Any]
) -> None:
    hypervisors["qemu:///system"] = [facts("web")]
    assert "web" in parse(**broken).hosts
    with pytest.raises(AnsibleError, match="nowhere"):
        parse(strict=True, **broken)


def test_the_cache_answers_until_it_is_passed_by(parse: Any, hypervisors: dict[str, Any], tmp_path: Path) -> None:
    caching = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}
    other = "qemu+ssh://hv1/system"
    hypervisors.update({"qemu:///system": [facts("old")], other: [facts("far")]})
    parse(**caching)
    hypervisors["qemu:///system"] = [facts("new")]
    assert parse(**caching).hosts.keys() == {"old"}
    assert parse(**caching, uris=[other]).hosts.keys() == {"far"}
    assert parse(refresh=True, **caching).hosts.keys() == {"new"}
    assert parse(**caching).hosts.keys() == {"new"}


@pytest.mark.parametrize("example", list(yaml.safe_load_all(domains.EXAMPLES)), ids=lambda example: str(len(example)))
def test_the_documented_examples_work(parse: Any, hypervisors: dict[str, Any], example: dict[str, Any]) -> None:
    for uri in example.get("uris", ["qemu:///system"]):
        hypervisors[uri] = [facts("web", shares=[SHARE], memory=8192)]
    inventory = parse(**example)
    assert len(inventory.hosts) == len(example.get("uris", ["qemu:///system"]))
    expected = {"share_nix_store_share", "big"} if "groups" in example else set()
    assert expected <= members(inventory).keys()


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("domains.yml", True),
        ("lab.domains.yaml", True),
        ("lab.libvirt.yml", True),
        ("hosts.yml", False),
        ("domains.txt", False),
    ],
)
def test_files_are_told_by_their_names(tmp_path: Path, name: str, accepted: bool) -> None:
    file = tmp_path / name
    file.touch()
    assert domains.InventoryModule().verify_file(str(file)) is accepted
