# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Inventory of libvirt domains and their virtiofs shares."""

from __future__ import annotations

DOCUMENTATION = r"""
name: domains
short_description: Inventory of libvirt domains and their virtiofs shares
version_added: 1.0.0
author: keystone contributors (@ncrmro)
description:
  - Every domain of one or more hypervisors is a host, under the domain's name.
  - Its variables are the values that M(keystone.virtiofs.domain_info) returns, each with C(keystone_) in front (for
    example C(keystone_state), C(keystone_uuid), C(keystone_shares), C(keystone_shared_memory)), and C(keystone_uri).
  - C(virtiofs_host) names its hypervisor, C(localhost) for a local URI. So it is found in the inventory where
    hypervisors are listed under the names that the URIs give them.
  - C(ansible_host) and C(ansible_port) say where its ssh server is, as far as that is known. With an ssh URI like
    C(qemu+ssh://root@hv1/system), C(ansible_ssh_common_args) goes through the hypervisor, because a guest is rarely
    reached from elsewhere. With other remote URIs they are not set; O(compose) can set them from C(keystone_ssh).
  - ssh looks up host keys under the domain's UUID (C(HostKeyAlias) in C(ansible_ssh_common_args)), because a guest may
    name the address of another machine, whose key is known under that address.
  - A domain whose name is C(localhost), that of a hypervisor, or that of a host or group which the inventory has
    already, is an error. The plugin only knows of what comes before it, so name its file after other inventories.
  - Domains are in group C(libvirt_running), C(libvirt_paused) or C(libvirt_stopped), and, with a virtiofs share, in
    group C(virtiofs_guests).
  - The file's name must end with C(domains.yml), C(domains.yaml), C(libvirt.yml) or C(libvirt.yaml).
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description:
      - Marks the file as one for this plugin.
    type: str
    required: true
    choices: [keystone.virtiofs.domains]
  uris:
    description:
      - Where libvirt runs, as in the modules' O(keystone.virtiofs.domain#module:uri). When one of them cannot be
        reached, the whole file fails; use one inventory file per hypervisor to list the others regardless.
    type: list
    elements: str
    default: [qemu:///system]
  states:
    description:
      - Only domains in one of these states.
    type: list
    elements: str
    choices: [running, paused, stopped]
    default: [running, paused, stopped]
  managed_only:
    description:
      - Only domains that modules of this collection have defined.
    type: bool
    default: false
  qualified_names:
    description:
      - Call hosts C(DOMAIN.HYPERVISOR), for hypervisors that have domains of the same name. Without this option, such
        a name is an error, because it is ambiguous.
    type: bool
    default: false
requirements:
  - libvirt-python and lxml, on the control node
seealso:
  - module: keystone.virtiofs.domain_info
"""

EXAMPLES = r"""
# domains.yml: all domains of this machine
plugin: keystone.virtiofs.domains

---
# fleet.domains.yml: the running guests of two hypervisors that this collection made
plugin: keystone.virtiofs.domains
uris:
  - qemu+ssh://root@hv1/system
  - qemu+ssh://root@hv2/system
states: [running]
managed_only: true
qualified_names: true

---
# shares.libvirt.yml: groups by share and by memory, and a user to log in with
plugin: keystone.virtiofs.domains
strict: true
keyed_groups:
  # share_nix_store_share, ...
  - key: keystone_shares | map(attribute='tag')
    prefix: share
groups:
  big: keystone_memory >= 8192
compose:
  ansible_user: "'root'"
"""

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ansible.constants import LOCALHOST
from ansible.errors import AnsibleParserError
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.controller import Controller
from ansible_collections.keystone.virtiofs.plugins.module_utils._apply.task import (
    LIBVIRT_IMPORT_ERROR,
    LXML_IMPORT_ERROR,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import VirtiofsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible.inventory.data import InventoryData
    from ansible.parsing.dataloader import DataLoader

FILE_NAMES = ("domains.yml", "domains.yaml", "libvirt.yml", "libvirt.yaml")


class Domain(NamedTuple):
    """A domain, and where it was found."""

    uri: str
    facts: Mapping[str, Any]

    @property
    def hypervisor(self) -> str:
        return urlsplit(self.uri).hostname or "localhost"

    def variables(self) -> dict[str, Any]:
        """The domain as host variables."""
        return {
            **{f"keystone_{name}": value for name, value in self.facts.items()},
            "keystone_uri": self.uri,
            "virtiofs_host": self.hypervisor,
            **self._connection(),
        }

    def _connection(self) -> dict[str, Any]:
        """How to log in. The fact says how the hypervisor itself would: 127.0.0.1 is that of the hypervisor."""
        ssh, address = self.facts["ssh"], urlsplit(self.uri)
        if not ssh or (address.netloc and "ssh" not in address.scheme):
            return {}
        # By the address, ssh would know the key of another machine whose address the guest names.
        options = [f"HostKeyAlias={self.facts['uuid']}", *([f"ProxyJump={address.netloc}"] if address.netloc else [])]
        arguments = shlex.join(word for option in options for word in ("-o", option))
        return {"ansible_host": ssh["host"], "ansible_port": ssh["port"], "ansible_ssh_common_args": arguments}

    def groups(self) -> list[str]:
        return [f"libvirt_{self.facts['state']}", *(["virtiofs_guests"] if self.facts["shares"] else [])]


def describe(uris: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The facts of all domains, by URI and name."""
    for library, error in (("libvirt-python", LIBVIRT_IMPORT_ERROR), ("lxml", LXML_IMPORT_ERROR)):
        if error:
            raise AnsibleParserError(missing_required_lib(library))
    found = {}
    for uri in uris:
        with Controller(uri, check_mode=True) as controller:
            found[uri] = controller.describe_domains(None)
    return found


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The plugin, under the name that Ansible looks for."""

    NAME = "keystone.virtiofs.domains"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(FILE_NAMES)

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            found = self._describe(path, cache)
        except VirtiofsError as error:
            raise AnsibleParserError(str(error)) from None  # or Ansible prints the message again
        for host, domain in self._hosts(found).items():
            self._add(host, domain)

    def _describe(self, path: str, may_read_cache: bool) -> dict[str, dict[str, Any]]:
        uris = self.get_option("uris")
        if not self.get_option("cache"):
            return describe(uris)
        key = self.get_cache_key(" ".join([path, *uris]))
        if not may_read_cache or key not in self.cache:
            self.cache[key] = describe(uris)
        return self.cache[key]

    def _hosts(self, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Domain]:
        """The wanted domains by inventory name."""
        hosts: dict[str, Domain] = {}
        hypervisors = (Domain(uri, {}).hypervisor for uri in found)
        others = {*LOCALHOST, *hypervisors, *self.inventory.hosts, *self.inventory.groups}
        for domain in (Domain(uri, facts) for uri, domains in found.items() for facts in domains.values()):
            if not self._is_wanted(domain.facts):
                continue
            name = domain.facts["name"]
            host = f"{name}.{domain.hypervisor}" if self.get_option("qualified_names") else name
            if host in others:
                raise AnsibleParserError(
                    f"domain {name} at {domain.uri} would take the place of the host or group {host} of the inventory."
                    " Set qualified_names, or rename the domain."
                )
            if host in hosts:
                raise AnsibleParserError(
                    f"domain {name} exists at {hosts[host].uri} and at {domain.uri}: {host} is ambiguous."
                    " Set qualified_names for hypervisors of different names, or give each URI an inventory file."
                )
            hosts[host] = domain
        return hosts

    def _is_wanted(self, facts: Mapping[str, Any]) -> bool:
        ours = facts["managed"] or not self.get_option("managed_only")
        return ours and facts["state"] in self.get_option("states")

    def _add(self, host: str, domain: Domain) -> None:
        variables, strict = domain.variables(), self.get_option("strict")
        self.inventory.add_host(host)
        for name, value in variables.items():
            self.inventory.set_variable(host, name, value)
        for group in domain.groups():
            self.inventory.add_child(self.inventory.add_group(group), host)
        self._set_composite_vars(self.get_option("compose"), variables, host, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict)
