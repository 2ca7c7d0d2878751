#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Manage a libvirt domain with virtiofs shares."""

from __future__ import annotations

DOCUMENTATION = r"""
module: domain
short_description: Manage a libvirt domain with virtiofs shares
version_added: 1.0.0
description:
  - Manages one libvirt domain. Options that are not set are left unchanged, so choices made by libvirt or by other
    tools are preserved.
  - Problems with the task or the host are reported before anything is changed.
author: keystone contributors (@ncrmro)
extends_documentation_fragment:
  - keystone.virtiofs._options.connection
  - keystone.virtiofs._options.domain
  - keystone.virtiofs._options.attributes
seealso:
  - module: keystone.virtiofs.domains
  - module: keystone.virtiofs.share
  - module: keystone.virtiofs.domain_info
"""

EXAMPLES = r"""
- name: A VM that sees the host's Nix store
  keystone.virtiofs.domain:
    name: web
    state: running
    memory: 4096
    vcpus: 2
    disks:
      - path: /var/lib/libvirt/images/web.qcow2
        size: 30720
    interfaces:
      - type: user
        forwards:
          - host_port: 2222
            guest_port: 22
            next_free: true
    shares:
      - tag: nix-store-share
        source: /nix/store

- name: Secure Boot in setup mode, a TPM, and an installer to boot from
  keystone.virtiofs.domain:
    name: secure-vm
    firmware: uefi
    secure_boot: setup
    tpm: true
    iso: /var/lib/libvirt/images/installer.iso
    disks:
      - pool: default
        volume: secure-vm.qcow2
        size: 30720

- name: My own XML, with the store merged in
  keystone.virtiofs.domain:
    name: special
    xml: "{{ lookup('ansible.builtin.file', 'special.xml') }}"
    shares:
      - tag: nix-store-share
        source: /nix/store

- name: Boot a kernel directly, here that of the role test_guest, and wait until the guest can be logged into
  keystone.virtiofs.domain:
    name: test-vm
    state: running
    memory: 768
    vcpus: 1
    kernel: "{{ test_guest_kernel }}"
    initrd: "{{ test_guest_initrd }}"
    cmdline: "{{ test_guest_cmdline }}"
    disks:
      - path: /var/lib/libvirt/images/test-vm.qcow2
        backing: "{{ test_guest_image }}"
    interfaces:
      - type: user
        forwards:
          - host_port: 2222
            guest_port: 22
            next_free: true
    shares:
      - tag: nix-store-share
        source: /nix/store
    wait_for: ssh

- name: Remove a VM together with its disk
  keystone.virtiofs.domain:
    name: web
    state: absent
    remove_storage:
      - /var/lib/libvirt/images/web.qcow2
"""

RETURN = r"""
domain:
  description: The domain after the task; only C(name) and C(state=absent) if it does not exist.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    state:
      description: One of C(running), C(paused), C(stopped), C(absent).
      type: str
    memory:
      description: Value of the option O(memory), of the running domain if it runs; so are the next ones.
      type: int
    vcpus:
      description: Value of the option O(vcpus).
      type: int
    virt_type:
      description: Value of the option O(virt_type).
      type: str
    cpu:
      description: Value of the option O(cpu); null if libvirt chooses.
      type: str
    firmware:
      description: Value of the option O(firmware).
      type: str
    secure_boot:
      description: Value of the option O(secure_boot).
      type: str
    tpm:
      description: Value of the option O(tpm).
      type: bool
    vsock:
      description: Value of the option O(vsock).
      type: bool
    iso:
      description: Value of the option O(iso); null with an empty drive or without one.
      type: str
    kernel:
      description: Value of the option O(kernel); null without direct kernel boot.
      type: str
    initrd:
      description: Value of the option O(initrd); null without direct kernel boot.
      type: str
    cmdline:
      description: Value of the option O(cmdline); null without direct kernel boot.
      type: str
    serial_log:
      description: Value of the option O(serial_log); null without a log.
      type: str
    graphics:
      description: Value of the option O(graphics).
      type: str
    guest_agent:
      description: Value of the option O(guest_agent).
      type: bool
    uuid:
      description: Its UUID.
      type: str
    autostart:
      description: Whether it starts with the host.
      type: bool
    persistent:
      description: Whether it has a definition that outlives its end.
      type: bool
    managed_save:
      description: Whether its next start continues from a saved state.
      type: bool
    managed:
      description: Whether this collection created it.
      type: bool
    created_disks:
      description: Its disk images that this collection created.
      type: list
      elements: str
    shared_memory:
      description: Whether it has the shared memory that shares need.
      type: bool
    free_ports:
      description: Number of devices, such as shares, that can be hot-plugged.
      type: int
    shares:
      description: Its virtiofs shares, with the options of O(shares); those of the running domain if it runs.
      type: list
      elements: dict
      contains:
        tag:
          description: Its mount tag.
          type: str
        source:
          description: Its directory on the host.
          type: str
        read_only:
          description: Whether it is read-only.
          type: bool
    persistent_shares:
      description: The shares of its definition.
      type: list
      elements: dict
      contains:
        tag:
          description: Its mount tag.
          type: str
        source:
          description: Its directory on the host.
          type: str
    disks:
      description: Its disks, with the options of O(disks) and their devices.
      type: list
      elements: dict
      contains:
        path:
          description: The image; null for a volume of a pool.
          type: str
        pool:
          description: The storage pool, or null.
          type: str
        volume:
          description: The volume of the pool, or null.
          type: str
        format:
          description: Format of the image.
          type: str
        read_only:
          description: Whether the guest can only read it.
          type: bool
        bus:
          description: The bus.
          type: str
        target:
          description: Name of the device.
          type: str
        shareable:
          description: Whether several domains may use it at once.
          type: bool
    nvram:
      description: File of its UEFI variables; null without UEFI.
      type: str
    interfaces:
      description: Its network interfaces, with the options of O(interfaces).
      type: list
      elements: dict
      contains:
        type:
          description: Its type.
          type: str
        source:
          description: The network or bridge; null for user networking.
          type: str
        mac:
          description: Its MAC address.
          type: str
        model:
          description: The device.
          type: str
        forwards:
          description: Forwarded ports.
          type: list
          elements: dict
          contains:
            address:
              description: Address of the host.
              type: str
            host_port:
              description: Port of the host.
              type: int
            guest_port:
              description: Port of the guest.
              type: int
        restrict:
          description: Whether the guest reaches nothing but its forwarded ports.
          type: bool
    addresses:
      description: Its known IP addresses.
      type: list
      elements: str
    ssh:
      description: The ssh server as seen from the hypervisor; null if unknown.
      type: dict
      contains:
        host:
          description: Its address.
          type: str
        port:
          description: Its port.
          type: int
    dead_shares:
      description: Tags of the shares whose virtiofsd has ended; the guest waits for them indefinitely.
      type: list
      elements: str
    stale_shares:
      description:
        - Tags of the shares whose virtiofsd serves an earlier directory, because the source was replaced or
          mounted over.
      type: list
      elements: str
    running_for:
      description: For how many seconds a domain with shares has run; null if that is unknown.
      type: int
    virtiofsd_logs:
      description: Logs of its virtiofsd processes on this host.
      type: list
      elements: str
  sample:
    name: test-vm
    state: running
    uuid: 6f9f5a0e-6b4b-4d0c-8d51-0c4a8b3c9d3e
    addresses: [192.168.122.20]
    ssh: {host: 192.168.122.20, port: 22}
    shares:
      - {tag: nix-store-share, source: /nix/store, read_only: true, queue_size: 1024, cache: auto}
actions:
  description: The steps that were executed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [CreateDisk, Define, Start]
restart_required:
  description: Whether some changes take effect only after a restart of the running domain.
  returned: success
  type: bool
  sample: false
restart_reasons:
  description: The changes that need a restart.
  returned: success
  type: list
  elements: str
  sample: ["memory: 2048 in the running domain, 4096 in its definition"]
problem:
  description: What failed. C(msg) combines it with RV(fix), the domain and the share.
  returned: failure
  type: str
  sample: source /srv/data does not exist
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: Create the directory, or correct source.
failed_domain:
  description: The domain that the problem concerns; null if it concerns none in particular.
  returned: failure
  type: str
  sample: web
failed_share:
  description: The mount tag of the share that the problem concerns; null if it concerns none in particular.
  returned: failure
  type: str
  sample: data
libvirt_code:
  description: Error code of libvirt.
  returned: failure of libvirt
  type: int
  sample: 55
libvirt_message:
  description: Error message of libvirt.
  returned: failure of libvirt
  type: str
  sample: "Requested operation is not valid: domain is not running"
"""

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._apply import task
from ..module_utils._domain import schema
from ..module_utils._module import Module


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec=schema.argument_spec((*schema.OF_DOMAIN, schema.URI)),
        supports_check_mode=True,
    )
    task.run(module, lambda controller: controller.apply_domain(module.params))


if __name__ == "__main__":
    main()
