# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several modules document: each text stands here once."""

from __future__ import annotations

from textwrap import indent

_SHARE = """
source:
  description:
    - Directory on the host that the guest gets. It must exist, be absolute, and not lie in another share that the same
      domain may write to.
    - Give either C(source) or C(socket).
  type: path
socket:
  description:
    - Socket of a virtiofsd that somebody else runs. It alone decides about read-only access, caching and the like, so
      these options are refused together with C(socket).
    - Needs libvirt 7.3.
  type: path
read_only:
  description:
    - The guest cannot write to the source, whatever it does, because the host refuses it.
    - With libvirt 11.0 and virtiofsd 1.13 virtiofsd itself enforces this (C(<readonly/>)). On older hosts the share's
      source is a read-only bind mount of C(source), which is also written to C(/etc/fstab) and goes with the share.
    - The default is V(true) for C(/nix/store), what lies in it and what it lies in, V(false) for anything else.
  type: bool
queue_size:
  description:
    - Size of the request queue, a power of two up to 1024. A new share gets V(1024).
  type: int
cache:
  description:
    - How long the guest may trust what it has seen of the host's files.
    - V(auto), virtiofsd's default, shows new host files after about a second. V(always) is faster and only right for a
      source that never changes. V(none) asks the host every time.
    - V(metadata) needs virtiofsd 1.8 and is passed by a wrapper script, since libvirt has no XML for it.
  type: str
  choices: [none, auto, always, metadata]
xattr:
  description:
    - Pass extended attributes through.
  type: bool
sandbox:
  description:
    - How virtiofsd locks itself in. Needs libvirt 7.2.
  type: str
  choices: [namespace, chroot]
thread_pool_size:
  description:
    - Number of virtiofsd's worker threads. Needs libvirt 8.5.
  type: int
open_files:
  description:
    - How many files virtiofsd may have open, for sources with very many files. Needs libvirt 10.6.
  type: int
posix_lock:
  description:
    - Remote POSIX locks. Needs the C virtiofsd of QEMU 7.2 and older, later ones refuse to start with it.
  type: bool
flock:
  description:
    - Remote BSD locks. Needs the C virtiofsd of QEMU 7.2 and older, later ones refuse to start with it.
  type: bool
inode_file_handles:
  description:
    - Let virtiofsd keep file handles instead of open files, against "Too many open files" on a big store.
    - Needs virtiofsd 1.2 and is passed by a wrapper script, since libvirt has no XML for it.
  type: str
  choices: [never, prefer, mandatory]
idmap:
  description:
    - Map user and group ids between guest and host, for C(qemu:///session). Needs libvirt 10.0 and virtiofsd 1.6.
  type: dict
  suboptions:
    uid:
      description: Ranges of user ids.
      type: list
      elements: dict
      suboptions: &range
        start:
          description: First id in the guest.
          type: int
          required: true
        target:
          description: First id on the host.
          type: int
          required: true
        count:
          description: How many ids.
          type: int
          required: true
    gid:
      description: Ranges of group ids.
      type: list
      elements: dict
      suboptions: *range
"""

_TAG = """
tag:
  description:
    - The mount tag, by which the guest mounts the share. At most 36 bytes.
  type: str
  required: true
"""

_STOPPING = """
restart:
  description:
    - What to do when the running domain can take a change only through a restart.
    - With V(never) the change is made in the persistent definition and RV(restart_required) says that it waits.
  type: str
  choices: [never, if_required]
  default: never
shutdown_timeout:
  description:
    - How long to wait for the guest to power off, in seconds.
  type: int
  default: 60
force_stop:
  description:
    - Pull the plug when the guest has not powered off within O(shutdown_timeout).
  type: bool
  default: false
"""

_DOMAIN = f"""
name:
  description:
    - Name of the domain. At most 200 bytes, without C(/), quotes, angle brackets and control characters.
  type: str
  required: true
state:
  description:
    - V(present) makes sure that the domain is defined as wanted and leaves it running or not.
    - V(running) starts it as well, V(stopped) lets the guest power off.
    - V(absent) stops and undefines it, also when it is paused, has a managed save or snapshots. Its disks, UEFI
      variables and TPM state stay unless the task names them with O(remove_storage), O(remove_nvram) and
      O(remove_tpm_state).
  type: str
  choices: [present, running, stopped, absent]
  default: present
memory:
  description:
    - Memory in MiB. A new domain gets V(2048).
  type: int
vcpus:
  description:
    - Number of virtual CPUs. A new domain gets V(2).
  type: int
virt_type:
  description:
    - V(kvm), V(qemu) (software emulation, TCG), or V(auto), which runs a tiny guest with KVM to see whether KVM works
      and falls back to V(qemu) with a warning. A new domain gets V(auto); an existing one keeps its type under V(auto).
  type: str
  choices: [auto, kvm, qemu]
cpu:
  description:
    - C(host-passthrough), C(host-model), C(maximum), or a CPU model of QEMU.
    - A new domain gets C(host-passthrough) with KVM and C(qemu64), the fastest to emulate, without.
  type: str
firmware:
  description:
    - Firmware of the guest. V(uefi) leaves the choice of the image to libvirt.
  type: str
  choices: [bios, uefi]
secure_boot:
  description:
    - V(enrolled) boots with Microsoft's keys enrolled. V(setup) has Secure Boot in setup mode, with no keys enrolled,
      so that the guest can enrol its own. Both mean O(firmware=uefi).
    - An existing domain keeps its UEFI variables; O(remove_nvram) with O(state=absent) starts afresh.
  type: str
  choices: ["off", setup, enrolled]
tpm:
  description:
    - An emulated TPM 2.0 (swtpm).
  type: bool
iso:
  description:
    - Image in the CD-ROM drive. An empty string ejects it. A running domain gets the new medium at once.
  type: str
kernel:
  description:
    - Kernel on the host for booting without a boot loader.
  type: path
initrd:
  description:
    - Initial RAM disk for O(kernel).
  type: path
cmdline:
  description:
    - Kernel command line for O(kernel).
  type: str
serial_log:
  description:
    - File on the host to which the guest's first serial port is logged; C(virsh console) works as well.
  type: path
graphics:
  description:
    - Graphics console, listening on 127.0.0.1. A new domain has none.
  type: str
  choices: [none, vnc, spice]
guest_agent:
  description:
    - The channel for the QEMU guest agent. A new domain has it.
  type: bool
shares:
  description:
    - Virtiofs shares of the domain. Shares that are not listed are left alone; M(keystone.virtiofs.share) removes one.
    - Shared memory is arranged. A running domain gets shares by hot plug where it can take them.
    - A changed share needs a restart (O(restart)), since a guest that has it mounted would lose it.
      M(keystone.virtiofs.share) plugs it anew in the running domain.
  type: list
  elements: dict
  suboptions:
{indent(_TAG.strip(), "    ")}
{indent(_SHARE.strip(), "    ")}
disks:
  description:
    - Disks of the domain. A disk whose image does not exist is created, a larger O(disks[].size) grows it. No disk is
      ever shrunk, and disks that are not listed are left alone.
  type: list
  elements: dict
  suboptions:
    path:
      description: Image file, or block device, on the host. Give either this, or pool and volume.
      type: path
    pool:
      description: Storage pool of libvirt.
      type: str
    volume:
      description: Volume in the pool.
      type: str
    size:
      description: Size in MiB.
      type: int
    format:
      description: Format of the image. A new image is V(qcow2).
      type: str
      choices: [qcow2, raw]
    backing:
      description: Image that a new image is based on; it is never written to.
      type: path
    bus:
      description: Bus of the disk. A new disk gets V(virtio).
      type: str
      choices: [virtio, sata]
interfaces:
  description:
    - Network interfaces, matched by position. Interfaces beyond the listed ones are left alone.
  type: list
  elements: dict
  suboptions:
    type:
      description:
        - V(network) is a network of libvirt, V(bridge) a bridge of the host, V(user) QEMU's user networking, which
          needs no privileges and carries no traffic into the host's networks.
      type: str
      choices: [network, bridge, user]
      default: network
    source:
      description: Name of the network (by default C(default)) or of the bridge.
      type: str
    mac:
      description: MAC address. By default one that is derived from the domain's name and so never changes.
      type: str
    model:
      description: Emulated network card. A new interface gets V(virtio).
      type: str
      choices: [virtio, e1000e]
    forwards:
      description: Ports of the host that lead to TCP ports of the guest, for user networking.
      type: list
      elements: dict
      suboptions:
        address:
          description: Address of the host to listen on.
          type: str
          default: 127.0.0.1
        host_port:
          description: Port of the host.
          type: int
          required: true
        guest_port:
          description: Port of the guest.
          type: int
          required: true
        next_free:
          description: Take the next free port when O(interfaces[].forwards[].host_port) is taken, and keep it then.
          type: bool
          default: false
hotplug_ports:
  description:
    - How many pcie-root-ports to keep free for shares that are added while the domain runs. A new domain gets V(4).
  type: int
autostart:
  description:
    - Start the domain with the host.
  type: bool
wait_for:
  description:
    - What to wait for at the end of the task. V(running) is the domain's state, V(address) an IP address, V(agent) an
      answer of the guest agent, V(ssh) the greeting of the guest's ssh server.
  type: str
  choices: [running, address, agent, ssh]
wait_timeout:
  description:
    - How long to wait, in seconds. When it is over, the error says what was seen last.
  type: int
  default: 300
remove_storage:
  description:
    - Disks to delete with O(state=absent), image files by path and volumes as C(POOL/VOLUME). The disks that were
      created for a domain are listed as C(created_disks) by M(keystone.virtiofs.domain_info).
  type: list
  elements: str
remove_nvram:
  description:
    - Delete the UEFI variables with O(state=absent).
  type: bool
  default: false
remove_tpm_state:
  description:
    - Delete the state of the emulated TPM with O(state=absent). Before libvirt 8.9 it is always deleted.
    - libvirt keeps the state by the domain's uuid, so only a domain that is defined with the same uuid (in O(xml)) gets
      it back.
  type: bool
  default: false
xml:
  description:
    - Your own domain XML, into which the other options are merged. Its name must be O(name); the uuid and the MAC
      addresses of an existing domain are kept where the XML names none.
    - The definition is written anew when this text changes. What another tool changes in parts of the definition that
      only this text describes is not noticed.
  type: str
{_STOPPING.strip()}
"""


class ModuleDocFragment:
    """Fragments, used as keystone.virtiofs.options.NAME."""

    CONNECTION = """
options:
  uri:
    description:
      - Where libvirt runs. C(qemu:///system), C(qemu:///session) (shares need libvirt 10.0), or a remote URI like
        C(qemu+ssh://host/system).
      - With a remote URI the host's files are out of reach. So sources are not checked, and what needs files on the
        host (image files, read-only bind mounts, wrapper scripts) is refused or left to libvirt.
    type: str
    default: qemu:///system
requirements:
  - libvirt-python
  - lxml
"""

    # Annotated: ansible-test reads plain assignments as finished YAML, and these are put together.
    SHARE: str = "options:" + indent(_TAG + _SHARE.strip() + "\n" + _STOPPING, "  ")

    DOMAIN: str = "options:" + indent(_DOMAIN, "  ")

    ATTRIBUTES = """
options: {}
attributes:
  check_mode:
    description: Predicts exactly what a run would do, and changes nothing.
    support: full
  diff_mode:
    description: Shows what differs, before and after.
    support: full
  platform:
    description: Where the module runs.
    platforms: linux
    support: full
"""

    INFO_ATTRIBUTES = """
options: {}
attributes:
  check_mode:
    description: Changes nothing, in check mode or not.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: N/A
  platform:
    description: Where the module runs.
    platforms: linux
    support: full
"""
