# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of options that several modules share: each text is written once, here."""

from __future__ import annotations

from textwrap import indent

_SHARE = """
source:
  description:
    - Directory on the host to share. It must be absolute, exist, and not be inside another share that the same domain
      may write to.
    - Exactly one of C(source) and C(socket) is required.
  type: path
socket:
  description:
    - Socket of an externally managed virtiofsd. That daemon decides about read-only access, caching and so on, so
      those options cannot be combined with C(socket).
    - Requires libvirt 7.3.
  type: path
read_only:
  description:
    - Whether the share is read-only. The host enforces this, whatever the guest does.
    - With libvirt 11.0 and virtiofsd 1.13, virtiofsd enforces it (C(<readonly/>)). On older hosts the share's source is
      a read-only bind mount of C(source), which is removed together with the share. The program C(keystone-mounts),
      which the role P(keystone.virtiofs.host#role) installs, repeats it at boot. File systems that are mounted below
      C(source) do not appear there.
    - Defaults to V(true) for C(/nix/store), for paths below it and for directories that contain it; otherwise V(false).
  type: bool
nosuid:
  description:
    - Whether the host mounts a writable C(source) at itself with C(nosuid) and C(nodev). Root of the guest can make
      setuid programs and device nodes in the share; with this mount they are plain files for the users of the host.
    - The program C(keystone-mounts), which the role P(keystone.virtiofs.host#role) installs, repeats the mount at boot.
      The mount is removed together with the last share of the source.
    - If the module runs on the host as root, a writable share that is new, that was read-only or that gets another
      C(source) has V(true), unless the file system of C(source) has these mount options already. Other file systems
      must not be mounted below C(source).
  type: bool
queue_size:
  description:
    - Size of the request queue, a power of two up to 1024. A new share gets V(1024).
  type: int
cache:
  description:
    - How long the guest may cache what it has read of the host's files.
    - V(auto), virtiofsd's default, shows new host files after about a second. V(always) is faster and only correct for
      a source that never changes. V(none) asks the host every time, and the guest then has no shared memory maps of
      files, which for instance SQLite's write-ahead log needs.
    - V(metadata) requires virtiofsd 1.8. A wrapper script passes it, because libvirt has no XML for it.
    - V(store) is for a read-only share of a Nix store. The guest keeps what Nix has finished, and does not even ask to
      open a file; new, deleted and rebuilt paths appear after about a second, as with V(auto). A wrapper script
      passes it.
    - V(store) requires libvirt 11 and a virtiofsd with the collection's patch, which the role
      P(keystone.virtiofs.host#role) builds with C(host_virtiofsd_store_cache). With both, a new read-only share of
      C(/nix/store) has V(store) by default.
  type: str
  choices: [none, auto, always, metadata, store]
xattr:
  description:
    - Whether the guest may use extended attributes.
  type: bool
sandbox:
  description:
    - Sandbox mode of virtiofsd. Requires libvirt 7.2.
  type: str
  choices: [namespace, chroot]
thread_pool_size:
  description:
    - Number of worker threads of virtiofsd. Requires libvirt 8.5.
  type: int
open_files:
  description:
    - How many files virtiofsd may keep open, for sources with very many files; at least V(1024). Requires libvirt 10.6.
  type: int
posix_lock:
  description:
    - Remote POSIX locks. Requires the C virtiofsd of QEMU 7.2 or older; later ones refuse to start with this option.
  type: bool
flock:
  description:
    - Remote BSD locks. Requires the C virtiofsd of QEMU 7.2 or older; later ones refuse to start with this option.
  type: bool
inode_file_handles:
  description:
    - Whether virtiofsd keeps file handles instead of open files, which avoids "Too many open files" on a large store.
    - Requires virtiofsd 1.2. A wrapper script passes it, because libvirt has no XML for it.
  type: str
  choices: [never, prefer, mandatory]
translate_uid:
  description:
    - How virtiofsd translates user ids, C(TYPE:SOURCE:TARGET:COUNT) as in its option C(--translate-uid). For example
      C(squash-guest:0:1000:4294967295) lets everything that the guest creates belong to user 1000 of the host, which
      fits a project directory of that user, and leaves no file of the host's root behind.
    - A writable share that is new, that was read-only or that gets another C(source) has this for the owner and the
      group of a C(source) that does not belong to root, if virtiofsd has the option, unless C(translate_uid),
      C(translate_gid) or C(idmap) is set or C(nosuid) is V(false).
    - Requires virtiofsd 1.13. A wrapper script passes it, because libvirt has no XML for it.
  type: str
translate_gid:
  description:
    - The same for group ids.
  type: str
idmap:
  description:
    - Mapping of user and group ids between guest and host, for C(qemu:///session). Requires libvirt 10.0 and virtiofsd
      1.6.
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
          description: Number of ids.
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
    - The mount tag, which the guest mounts the share by. At most 36 bytes.
  type: str
  required: true
"""

_STOPPING = """
restart:
  description:
    - What to do if a change takes effect only after a restart of the running domain.
    - With V(never), only the persistent definition is changed, and RV(restart_required) is true.
  type: str
  choices: [never, if_required]
  default: never
shutdown_timeout:
  description:
    - Timeout for the guest to power off, in seconds.
  type: int
  default: 60
force_stop:
  description:
    - Whether to power off a guest that has not shut down within O(shutdown_timeout).
  type: bool
  default: false
allow_unsafe_paths:
  description:
    - Whether the task may bring paths into a domain that guests or the host make unsafe.
    - Without it, the module refuses a path inside a directory that a share of any domain exposes writable, because the
      guest could replace its content; a source that is a system directory, such as C(/), C(/etc), C(/root) or
      C(/home); and a writable source in which programs of the host are, such as C(/usr) and C(/nix/store).
    - It is refused on a host whose administrator limits what domains may use (C(/etc/keystone-virtiofs/limits.json)).
  type: bool
  default: false
"""

_DOMAIN = f"""
name:
  description:
    - Name of the domain. That of a new domain has at most 200 bytes, without C(/), quotes, angle brackets and control
      characters.
  type: str
  required: true
state:
  description:
    - V(present) ensures that the domain is defined as the task says, whether it runs or not.
    - V(running) also starts the domain, V(stopped) shuts the guest down.
    - V(absent) stops and undefines the domain, even if it is paused, has a managed save or snapshots. Its disks, UEFI
      variables and TPM state are kept unless the task names them with O(remove_storage), O(remove_nvram) and
      O(remove_tpm_state).
  type: str
  choices: [present, running, stopped, absent]
  default: present
memory:
  description:
    - Memory in MiB. A new domain gets V(2048).
    - In a domain with NUMA cells, the cells are resized in proportion; memory devices keep their sizes.
  type: int
vcpus:
  description:
    - Number of virtual CPUs. A new domain gets V(2).
  type: int
virt_type:
  description:
    - V(kvm), V(qemu) (software emulation, TCG), or V(auto). For a new domain, V(auto) runs a tiny guest to check
      whether KVM works and otherwise falls back to V(qemu) with a warning; an existing domain keeps its type.
    - A new domain gets V(auto).
  type: str
  choices: [auto, kvm, qemu]
cpu:
  description:
    - C(host-passthrough), C(host-model), C(maximum), or a CPU model of QEMU.
    - A new domain gets C(host-passthrough) with KVM, otherwise C(qemu64), which is the fastest to emulate.
  type: str
firmware:
  description:
    - Firmware of the guest. With V(uefi), libvirt chooses the image.
  type: str
  choices: [bios, uefi]
secure_boot:
  description:
    - V(enrolled) boots with Microsoft's keys enrolled. V(setup) boots in setup mode, with no keys enrolled, so that
      the guest can enrol its own. Both imply O(firmware=uefi).
    - An existing domain keeps its UEFI variables. To reset them, remove the domain with O(remove_nvram) and define it
      again.
  type: str
  choices: ["off", setup, enrolled]
tpm:
  description:
    - An emulated TPM 2.0 (swtpm).
  type: bool
vsock:
  description:
    - A socket between guest and host that needs no network. libvirt gives the guest a free address (CID) at each start.
      An existing vsock with an address of its own is kept. Adding or removing a vsock takes effect at the next start.
    - Requires the kernel module vhost_vsock on the host.
  type: bool
iso:
  description:
    - Image in the CD-ROM drive. An empty string ejects the medium. A running domain gets the new medium at once.
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
    - Graphics console. It listens on a Unix socket that only root and QEMU can reach; C(virt-viewer) connects through
      libvirt. A new domain has none.
  type: str
  choices: [none, vnc, spice]
guest_agent:
  description:
    - Whether the domain has the channel of the QEMU guest agent. A new domain has it.
  type: bool
shares:
  description:
    - Virtiofs shares of the domain. Shares that are not listed are kept; M(keystone.virtiofs.share) removes one.
    - Shared memory is configured automatically. A running domain gets new shares by hot plug where possible.
    - A changed share needs a restart (O(restart)), because replugging it would break it for a guest that has it
      mounted. The option C(replug) of M(keystone.virtiofs.share) replugs it in the running domain.
  type: list
  elements: dict
  suboptions:
{indent(_TAG.strip(), "    ")}
{indent(_SHARE.strip(), "    ")}
disks:
  description:
    - Disks of the domain. A missing image is created, and a larger O(disks[].size) grows an existing one. No disk is
      ever shrunk, and disks that are not listed are kept. A disk stays the same disk when an
      external snapshot gives it an overlay.
  type: list
  elements: dict
  suboptions:
    path:
      description: Image file or block device on the host. Exactly one of this, or pool and volume, is required.
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
      description:
        - Format of the image. A new image is V(qcow2).
        - The format of an existing image is never guessed from its contents, which a guest may have written. It is what
          this option, the domain's definition or the collection's own record says, otherwise V(raw). Without any of
          these, an image with a qcow2 header is refused.
        - A V(qcow2) image must not have an external data file, and no other backing file than C(backing).
      type: str
      choices: [qcow2, raw]
    read_only:
      description:
        - Whether the guest can only read the disk. The host enforces this. An image that all users of the host may read
          keeps its owner, so QEMU cannot write to it either.
      type: bool
    pmem:
      description:
        - Whether the guest has the image as persistent memory (C(/dev/pmem0)) instead of a disk. A file system with
          DAX, such as erofs, then reads from the page cache of the host, which all guests with the same image share.
        - Requires QEMU 6.0 and an existing image at C(path) whose size is a multiple of 2 MiB, with C(format=raw)
          and C(read_only=true). The host enforces that the guest only reads.
        - libvirt has no XML for read-only access, so the device is on QEMU's command line.
      type: bool
    backing:
      description: Backing image of a new image. It is never written to.
      type: path
    backing_format:
      description: Format of C(backing). Required for a V(qcow2) image that this collection has not created.
      type: str
      choices: [qcow2, raw]
    bus:
      description: Bus of the disk. A new disk gets V(virtio).
      type: str
      choices: [virtio, sata]
interfaces:
  description:
    - Network interfaces, matched by position. Interfaces beyond the listed ones are kept.
  type: list
  elements: dict
  suboptions:
    type:
      description:
        - V(network) is a network of libvirt, V(bridge) a bridge of the host, V(user) QEMU's user networking, which
          needs no privileges.
      type: str
      choices: [network, bridge, user]
      default: network
    source:
      description: Name of the network (by default C(default)) or of the bridge.
      type: str
    mac:
      description: MAC address. By default it is derived from the domain's name, so it never changes.
      type: str
    model:
      description: Emulated network card. A new interface gets V(virtio).
      type: str
      choices: [virtio, e1000e]
    forwards:
      description: Ports of the host that are forwarded to TCP ports of the guest, with user networking.
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
          description: Whether to use, and keep, the next free port if O(interfaces[].forwards[].host_port) is taken.
          type: bool
          default: false
    restrict:
      description:
        - Whether user networking is isolated, so that the guest reaches neither the host nor other machines. Forwarded
          ports still work.
        - Without it, a guest with user networking reaches every service that listens on the host, those that listen on
          the loopback interface included.
      type: bool
hotplug_ports:
  description:
    - Number of pcie-root-ports to reserve for shares that are added while the domain runs. A new domain gets V(4).
  type: int
autostart:
  description:
    - Whether the domain is started together with the host.
  type: bool
wait_for:
  description:
    - What to wait for at the end of the task. V(running) is the domain's state, V(address) an IP address, V(agent) an
      answer of the guest agent, V(ssh) the greeting of the guest's ssh server.
  type: str
  choices: [running, address, agent, ssh]
wait_timeout:
  description:
    - Timeout for O(wait_for) in seconds. The error message contains the last observed state.
  type: int
  default: 300
remove_storage:
  description:
    - Disks to delete with O(state=absent), image files by path and volumes as C(POOL/VOLUME).
      M(keystone.virtiofs.domain_info) returns the disks that were created for a domain as C(created_disks).
    - A disk that is the base of an overlay (external snapshot) is deleted only together with the overlay. List the
      overlay as well; C(created_disks) includes overlays.
  type: list
  elements: str
remove_nvram:
  description:
    - Whether O(state=absent) also deletes the UEFI variables.
  type: bool
  default: false
remove_tpm_state:
  description:
    - Whether O(state=absent) also deletes the state of the emulated TPM. Before libvirt 8.9 it is always deleted.
    - libvirt stores the state under the domain's uuid, so only a domain with the same uuid (in O(xml)) gets it back.
  type: bool
  default: false
xml:
  description:
    - Domain XML into which the other options are merged. Its name must be O(name). An existing domain keeps its uuid
      and MAC addresses where the XML has none.
    - The definition is replaced when this text changes; reserved ports and shares that other tasks added are kept.
      Changes that another tool makes to parts that only this text describes are not detected.
  type: str
{_STOPPING.strip()}
"""


class ModuleDocFragment:
    """Fragments, used as keystone.virtiofs._options.NAME."""

    CONNECTION = """
options:
  uri:
    description:
      - Connection URI of libvirt. C(qemu:///system), C(qemu:///session) (shares require libvirt 10.0), or a remote URI
        such as C(qemu+ssh://host/system). Of a URI's parameters only C(socket), C(keyfile) and C(no_verify=1) are
        accepted, because others are commands that libvirt runs.
      - The module cannot access the host's files over a remote URI. Therefore sources are not checked, and anything
        that needs files on the host (image files, read-only bind mounts, wrapper scripts) is refused or left to
        libvirt.
    type: str
    default: qemu:///system
requirements:
  - libvirt-python
  - lxml
"""

    # Annotated because ansible-test reads plain assignments as complete YAML, and these are assembled.
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
    description: Never changes anything.
    support: full
  diff_mode:
    description: Nothing is ever changed.
    support: N/A
  platform:
    description: Where the module runs.
    platforms: linux
    support: full
"""
