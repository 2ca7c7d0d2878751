# SPDX-License-Identifier: GPL-3.0-or-later
"""The host module: what it evaluates to, and what it refuses."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml
from lxml import etree

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.networks.document import network_xml
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import mount_table
from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT, HOST_MODULE, EvaluationError, World

PROXY = CHECKOUT / "nix/modules/keystone_store_proxy"
PYTHON = "python3-with-python3-libvirt-python3-lxml/bin/python3"


def test_nothing_happens_unless_enabled(world: World) -> None:
    assert world.config("virtualisation.libvirtd.enable", HOST_MODULE) is False


def test_libvirt_finds_virtiofsd_and_swtpm(world: World) -> None:
    libvirtd = world.host("virtualisation.libvirtd")
    assert libvirtd["enable"] is True
    assert [package.endswith("-virtiofsd") for package in libvirtd["qemu"]["vhostUserPackages"]] == [True]
    assert libvirtd["qemu"]["swtpm"]["enable"] is True


def test_virtiofsd_gets_the_patch_for_stores_if_asked(world: World) -> None:
    asked = "storeCache = true;"
    (package,) = world.host("virtualisation.libvirtd.qemu.vhostUserPackages", asked)
    assert package.endswith("-virtiofsd own.patch virtiofsd-cache-policy-store.patch")
    (package,) = world.host("virtualisation.libvirtd.qemu.vhostUserPackages")
    assert package.endswith("-virtiofsd")


@pytest.mark.parametrize(("version", "offset"), [("1.13.3", "offset as libc::off64_t"), ("1.14.0", "offset")])
def test_the_patch_for_stores_fits_later_versions_of_virtiofsd(world: World, version: str, offset: str) -> None:
    patches = f'{{ type = "derivation"; outPath = toString (change {{ version = "{version}"; }}).patches; }}'
    package = f'{{ type = "derivation"; overrideAttrs = change: {patches}; }}'
    (patch,) = world.host("virtualisation.libvirtd.qemu.vhostUserPackages", f"storeCache = true; package = {package};")
    assert f"-        ReadDir::new(&*dir, {offset}, buf)\n" in patch
    assert ("off64_t" in patch) == ("off64_t" in offset)
    assert "off: u64, _flags: Option<crate::oslib::ReadvFlags>)" in patch


def test_guests_are_shut_down_with_the_host(world: World) -> None:
    assert world.host("virtualisation.libvirtd.onShutdown") == "shutdown"


def test_virtiofsd_is_on_the_path(world: World) -> None:
    assert any("virtiofsd" in package for package in world.host("environment.systemPackages"))


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("virtualisation.libvirtd.enable", "false", False),
        ("virtualisation.libvirtd.qemu.swtpm.enable", "false", False),
        ("virtualisation.libvirtd.onShutdown", '"suspend"', "suspend"),
        ('environment.etc."keystone/python3".source', '"/opt/python3"', "/opt/python3"),
    ],
)
def test_what_the_user_sets_wins(world: World, option: str, value: str, expected: object) -> None:
    assert world.host(option, "", f"{{ {option} = {value}; }}") == expected


def test_without_libvirt_it_says_what_to_do(world: World) -> None:
    with pytest.raises(EvaluationError, match="Failed assertions") as caught:
        world.host("system.build.toplevel", "", "{ virtualisation.libvirtd.enable = false; }")
    message = str(caught.value)
    assert "virtualisation.libvirtd.enable: keystone.virtualization.host.virtiofs.enable requires libvirt" in message
    assert "or set keystone.virtualization.host.virtiofs.enable to false" in message


def test_the_defaults_are_accepted(world: World) -> None:
    assert world.host("system.build.toplevel")


def test_what_the_user_adds_is_kept(world: World) -> None:
    own = "({ pkgs, ... }: { virtualisation.libvirtd = { enable = true; qemu.vhostUserPackages = [ pkgs.git ]; }; })"
    assert len(world.host("virtualisation.libvirtd.qemu.vhostUserPackages", "", own)) == 2


def test_users_manage_guests(world: World) -> None:
    assert world.host("users.groups.libvirtd.members", 'users = [ "alice" "bob" ];') == ["alice", "bob"]


def test_ansible_has_a_python_at_a_stable_path(world: World) -> None:
    assert world.host('environment.etc."keystone/python3".source').endswith(PYTHON)


def test_there_is_a_place_for_the_roots_of_guests(world: World) -> None:
    assert any(
        "/nix/var/nix/gcroots/keystone-virtiofs/domains " in rule for rule in world.host("systemd.tmpfiles.rules")
    )


NETWORK = "systemd.services.keystone-network"


def test_the_network_is_there_when_the_host_is_up(world: World) -> None:
    service = world.host(NETWORK)
    assert service["wantedBy"] == ["multi-user.target"]
    assert service["requires"] == service["after"] == ["libvirtd.socket"]
    script = world.host(f"{NETWORK}.script", 'network = "guests"; networkPrefix = "10.20.30";')
    definition = etree.fromstring(re.findall(r"<<'XML'\n(.*?)^XML$", script, re.DOTALL | re.MULTILINE)[0])
    assert definition.findtext("name") == "guests"
    addresses = definition.find("ip")
    assert addresses is not None
    assert addresses.get("address") == "10.20.30.1"
    assert "virsh net-start guests" in script


ASKED = {"allowedTCPPorts": [53], "allowedUDPPorts": [53, 67]}


@pytest.mark.parametrize(("backend", "bridges"), [("iptables", "virbr-ks+"), ("nftables", "virbr-ks*")])
def test_the_firewall_lets_guests_of_every_network_ask_for_an_address(world: World, backend: str, bridges: str) -> None:
    """Each backend has its own sign for the bridges virbr-ks, virbr-ks0 and so on, which the module network creates."""
    backend = f'{{ networking.firewall.backend = "{backend}"; }}'
    for options in ("", "network = null;"):
        assert world.host("networking.firewall.interfaces", options, backend) == {bridges: ASKED}
    assert '<bridge name="virbr-ks"/>' in world.host(f"{NETWORK}.script")
    (bridge,) = etree.fromstring(network_xml("net", "192.168.100", firewall=True)).findall("bridge")
    assert bridge.get("name", "").startswith(bridges[:-1])


def test_firewalld_has_a_zone_of_libvirts_own(world: World) -> None:
    firewalld = '{ networking.firewall.backend = "firewalld"; }'
    assert world.host("networking.firewall.interfaces", "", firewalld) == {}


def test_guests_reach_other_networks_through_a_firewall_that_filters_what_it_forwards(world: World) -> None:
    filtering = "{ networking.firewall.filterForward = true; }"
    for options in ("", "network = null;"):
        rules = world.host("networking.firewall.extraForwardRules", options, filtering)
        assert 'iifname "virbr-ks*" accept' in rules
    assert world.host("networking.firewall.extraForwardRules") == ""


def test_the_network_starts_behind_the_firewall(world: World) -> None:
    service = world.host("systemd.services.keystone-firewall")
    assert service["requiredBy"] == ["keystone-network.service"]
    assert {"keystone-network.service", "libvirtd.service"} <= set(service["before"])
    rules = (CHECKOUT / "nix/modules/keystone-firewall.nft").read_text()
    assert service["script"] == service["reload"] == f"nft --file - <<'RULES'\n{rules}RULES\n"
    assert "keystone-firewall" not in world.host("systemd.services", "networkFirewall = false;")


def test_without_a_network_the_firewall_is_there_for_networks_of_the_role_vm(world: World) -> None:
    services = world.host("systemd.services", "network = null;")
    assert set(services) == {"keystone-firewall", "keystone-mounts"}
    assert services["keystone-firewall"]["requiredBy"] == []
    assert list(world.host("systemd.services", "network = null; networkFirewall = false;")) == ["keystone-mounts"]


def test_the_database_is_copied_when_it_changes(world: World) -> None:
    # molecule/nixos_host runs it.
    options = "exportDatabase = true; network = null;"
    assert world.host("systemd.paths", options) == {
        "keystone-nix-database": {
            "description": "Changes of the Nix database",
            "wantedBy": ["multi-user.target"],
            "pathConfig": {"PathModified": ["/nix/var/nix/db/db.sqlite", "/nix/var/nix/db/db.sqlite-wal"]},
        }
    }
    service = world.host("systemd.services", options)["keystone-nix-database"]
    assert service["before"] == ["libvirtd.service"]
    assert "/var/lib/keystone-virtiofs/database" in service["script"]


class Store:
    """A Nix database that is written to all the time, and the script that copies it."""

    def __init__(self, world: World, root: Path) -> None:
        self.copy = root / "copy/db/db.sqlite"
        self._database = root / "nix/db.sqlite"
        (root / "nix").mkdir()
        (root / "nix/schema").write_text("10")
        with closing(self._open()) as database:
            database.executescript("PRAGMA journal_mode=WAL; CREATE TABLE ValidPaths (path TEXT, pad TEXT)")
        script = world.host("systemd.services.keystone-nix-database.script", "exportDatabase = true;")
        self._script = script.replace("/nix/var/nix/db", str(root / "nix")).replace(
            "/var/lib/keystone-virtiofs/database", str(root / "copy")
        )

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._database, timeout=30)

    def add_paths(self, number: int) -> None:
        with closing(self._open()) as database:
            database.executemany("INSERT INTO ValidPaths VALUES (?, ?)", [("path", "x" * 200)] * number)
            database.commit()

    def keep_writing(self, done: Event) -> None:
        while not done.is_set():
            self.add_paths(1)

    def export(self) -> None:
        subprocess.run(["bash", "-e", "-c", self._script], check=True, timeout=60)

    def exported(self) -> int:
        with closing(sqlite3.connect(f"file:{self.copy}?mode=ro", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (number,) = database.execute("SELECT count(*) FROM ValidPaths").fetchone()
            return int(number)


def test_a_store_that_changes_all_the_time_is_copied(world: World, tmp_path: Path) -> None:
    store, done = Store(world, tmp_path), Event()
    store.add_paths(50_000)
    writer = Thread(target=store.keep_writing, args=[done])
    writer.start()
    try:
        store.export()
    finally:
        done.set()
        writer.join()
    assert store.exported() >= 50_000
    assert {path.name for path in (tmp_path / "copy").iterdir()} >= {"db", "gcroots", "profiles", "temproots"}


def test_a_store_that_has_not_changed_is_not_copied_again(world: World, tmp_path: Path) -> None:
    store = Store(world, tmp_path)
    store.add_paths(3)
    store.export()
    inode = store.copy.stat().st_ino
    store.export()
    assert store.copy.stat().st_ino == inode
    store.add_paths(1)
    store.export()
    assert store.exported() == 4


def test_the_database_is_not_copied_unasked(world: World) -> None:
    assert "keystone-nix-database" not in world.host("systemd.services")
    assert world.host("systemd.paths") == {}


def test_the_store_views_are_as_on_other_distributions(world: World) -> None:
    rules = world.host("systemd.tmpfiles.rules", "shareClosureOnly = true;")
    (link,) = (rule.split() for rule in rules if "store-view" in rule)
    assert link[:2] == ["L+", "/usr/local/sbin/keystone-store-view"]
    service = world.host("systemd.services.keystone-store-views", "shareClosureOnly = true;")
    assert service["serviceConfig"]["ExecStart"] == f"{link[-1]} restore"
    theirs = (CHECKOUT / "roles/host/files/keystone-store-views.service").read_text()
    assert f"ConditionPathExistsGlob={service['unitConfig']['ConditionPathExistsGlob']}\n" in theirs


def test_there_are_no_store_views_unasked(world: World) -> None:
    assert "keystone-store-views" not in world.host("systemd.services")
    assert not any("store-view" in rule for rule in world.host("systemd.tmpfiles.rules"))


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("enable", "1", "boolean"),
        ("package", '"virtiofsd"', "package"),
        ("python", "null", "package"),
        ("users", '"alice"', "list of string"),
        ("users", "[ 1 ]", "string"),
        ("shareClosureOnly", '"yes"', "boolean"),
        ("storeCache", "1", "boolean"),
        ("exportDatabase", "null", "boolean"),
        ("network", '"my net"', "null or string matching"),
        ("network", '"--all"', "null or string matching"),
        ("networkPrefix", '"192.168.100.0"', "string matching"),
    ],
)
def test_a_value_of_another_type_is_refused(world: World, option: str, value: str, expected: str) -> None:
    name = f"keystone.virtualization.host.virtiofs.{option}"
    with pytest.raises(EvaluationError, match=rf"{name}.* is not of type `{expected}"):
        world.config(name, HOST_MODULE, f"{{ {name} = {value}; }}")


def test_shares_are_mounted_before_guests_start_with_the_host(world: World) -> None:
    rules = world.host("systemd.tmpfiles.rules")
    (link,) = (rule.split() for rule in rules if "keystone-mounts" in rule)
    assert link[:2] == ["L+", str(mount_table.PROGRAM)]
    service = world.host("systemd.services.keystone-mounts")
    assert service["before"] == ["libvirtd.service"]
    assert service["serviceConfig"]["ExecStart"] == link[-1]


def test_the_mounts_are_as_on_other_distributions(world: World) -> None:
    theirs = (CHECKOUT / "roles/host/files/keystone-mounts.service").read_text()
    service = world.host("systemd.services.keystone-mounts")
    for line in (
        f"ExecStart={mount_table.PROGRAM}",
        f"After={service['after'][0]}",
        f"TimeoutStartSec={service['serviceConfig']['TimeoutStartSec']}",
    ):
        assert f"\n{line}\n" in theirs
    assert "RestrictSUIDSGID=" not in theirs
    assert not service["serviceConfig"]["RestrictSUIDSGID"], "systemd would take openat2(2) away"
    assert f'TABLE = Path("{mount_table.TABLE}")' in (CHECKOUT / "nix/modules/keystone-mounts").read_text()


def test_the_role_deploys_every_file_that_the_module_reads(world: World, tmp_path: Path) -> None:
    files = CHECKOUT / "roles/host/files"
    listed = yaml.safe_load((CHECKOUT / "roles/host/vars/main.yml").read_text())["_host_nixos_modules"]
    package = [str(file.relative_to(files)) for file in (files / "keystone_store_proxy").glob("*.py")]
    for name in [*listed, *package]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((files / name).read_text())
    values = {"enable": True, "exportDatabase": True, "liveStore": True, "shareClosureOnly": True}
    (tmp_path / "keystone-virtiofs.json").write_text(json.dumps(values))
    services = world.config("systemd.services", tmp_path / "keystone-virtiofs.nix")
    assert {"keystone-nix-database", "keystone-store-live", "keystone-store-proxy@"} <= set(services)
    assert set(package) == {f"keystone_store_proxy/{file.name}" for file in PROXY.glob("*.py")}
