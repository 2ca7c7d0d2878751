#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell what a host can do with virtiofs, and what is in the way."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: What a host can do with virtiofs, and what is in the way
description:
  - Reports the versions of libvirt, QEMU and virtiofsd, whether KVM works (proven by running QEMU), the
    firmware and TPM support for guests, and for each virtiofs feature what it needs and whether this host
    has it.
  - What is missing or wrong comes as RV(findings), each with its severity and the fix. A host that is not
    ready is a result, not a failure of this module; see RV(ready).
  - It reads the host itself, so run it there; a remote O(uri) is refused.
author:
  - keystone contributors (@ncrmro)
options:
  uri:
    description:
      - libvirt's connection URI.
    type: str
    default: qemu:///system
attributes:
  check_mode:
    description: Can run in check mode and return the same as in a normal run.
    support: full
  diff_mode:
    description: Shows what was changed.
    support: N/A
    details: Nothing is ever changed.
requirements:
  - python3-libvirt on the host; without it, that is a finding
seealso:
  - module: keystone.virtiofs.domain_info
  - module: keystone.virtiofs.store_info
"""

EXAMPLES = r"""
- name: Look at the host
  keystone.virtiofs.host_info:
  register: host

- name: Stop with every fix named when shares cannot work
  ansible.builtin.assert:
    that: host.ready
    fail_msg: >-
      {{ host.findings | selectattr('severity', 'eq', 'error') | map(attribute='fix') | join('; ') }}
"""

RETURN = r"""
ready:
  description: Whether shares can work, that is, no finding of severity V(error).
  returned: success
  type: bool
  sample: true
versions:
  description: Versions in use; null for what is not there or cannot be asked.
  returned: success
  type: dict
  sample: {libvirt: 11.3.0, qemu: 10.0.13, virtiofsd: 1.13.2}
virtiofsd:
  description: The daemon that libvirt takes for a share that names none.
  returned: success
  type: dict
  contains:
    path:
      description: Its path; null without one.
      type: str
      sample: /usr/libexec/virtiofsd
    legacy:
      description: Whether it is the C daemon of QEMU up to 7.2, whose version is QEMU's.
      type: bool
      sample: false
kvm:
  description: Whether QEMU really runs guests with KVM.
  returned: success
  type: dict
  contains:
    usable:
      description: Whether it does.
      type: bool
      sample: false
    reason:
      description: Why not; empty when it does.
      type: str
      sample: "/usr/bin/qemu-system-x86_64 with KVM ended with status -6: failed to set MSR 0x10a to 0x69"
    smm:
      description: Whether these guests have the System Management Mode that Secure Boot needs.
      type: bool
      sample: false
emulator:
  description: QEMU for this machine's architecture; null without one.
  returned: success
  type: str
  sample: /usr/bin/qemu-system-x86_64
firmware:
  description: What the installed firmware offers guests.
  returned: success
  type: dict
  contains:
    uefi:
      description: UEFI.
      type: bool
      sample: true
    secure_boot:
      description: Secure Boot with enrolled keys.
      type: bool
      sample: true
    setup_mode:
      description: Secure Boot without keys, so that the guest enrols its own.
      type: bool
      sample: true
swtpm:
  description: Whether guests can have a TPM.
  returned: success
  type: bool
  sample: true
memfd:
  description: Whether guests can have the shared memory that virtiofs needs.
  returned: success
  type: bool
  sample: true
apparmor:
  description: Whether AppArmor confines libvirt, and with it the places of virtiofsd.
  returned: success
  type: bool
  sample: false
systemd:
  description: Whether systemd runs the services.
  returned: success
  type: bool
  sample: true
features:
  description: Every virtiofs feature.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its name; mostly that of the share option that asks for it.
      type: str
      sample: readonly
    summary:
      description: What it is.
      type: str
      sample: read-only, enforced by virtiofsd
    needs:
      description: The versions that it needs.
      type: str
      sample: libvirt >= 11.0.0, virtiofsd >= 1.13.0
    available:
      description: Whether this host has it.
      type: bool
      sample: true
    reason:
      description: What is missing; empty when it is available.
      type: str
      sample: ""
findings:
  description: What is wrong or worth knowing, the worst first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: A name that stays.
      type: str
      sample: kvm_unusable
    severity:
      description: V(error) stops shares from working, V(warning) costs, V(info) explains.
      type: str
      sample: warning
    problem:
      description: What is wrong.
      type: str
      sample: "KVM is unusable, so guests run emulated (TCG), many times slower: there is no /dev/kvm"
    fix:
      description: What to do about it.
      type: str
      sample: Enable virtualization (VT-x, AMD-V) in the firmware
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.keystone.virtiofs.plugins.module_utils._features import (
    FEATURES,
    format_version,
    needs,
    unavailable,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.findings import find_problems
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.survey import survey_host

if TYPE_CHECKING:
    from ansible_collections.keystone.virtiofs.plugins.module_utils._host.findings import HostFacts


def describe_features(facts: HostFacts) -> list[dict[str, Any]]:
    def reason(feature_id: str) -> str:
        if facts.libvirt is None:
            return "libvirt does not answer, so its version is not known"
        return unavailable(feature_id, facts.libvirt, facts.virtiofsd) or ""

    return [
        {
            "id": feature.id,
            "summary": feature.summary,
            "needs": needs(feature.id),
            "available": not reason(feature.id),
            "reason": reason(feature.id),
        }
        for feature in FEATURES
    ]


def describe_versions(facts: HostFacts) -> dict[str, str | None]:
    virtiofsd = facts.virtiofsd.version if facts.virtiofsd else None
    found = {"libvirt": facts.libvirt, "qemu": facts.qemu, "virtiofsd": virtiofsd}
    return {name: format_version(version) if version else None for name, version in found.items()}


def describe_host(facts: HostFacts) -> dict[str, Any]:
    findings = find_problems(facts)
    return {
        "ready": not any(finding.severity == "error" for finding in findings),
        "versions": describe_versions(facts),
        "virtiofsd": {
            "path": facts.virtiofsd.path if facts.virtiofsd else None,
            "legacy": facts.virtiofsd is not None and facts.virtiofsd.legacy,
        },
        "kvm": asdict(facts.kvm),
        "emulator": facts.emulator,
        "firmware": {
            "uefi": any(firmware.uefi for firmware in facts.firmware),
            "secure_boot": any(firmware.secure_boot and firmware.enrolled_keys for firmware in facts.firmware),
            "setup_mode": any(firmware.setup_mode for firmware in facts.firmware),
        },
        "swtpm": facts.swtpm,
        "memfd": facts.memfd,
        "apparmor": facts.apparmor,
        "systemd": facts.systemd,
        "features": describe_features(facts),
        "findings": [asdict(finding) for finding in findings],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={"uri": {"type": "str", "default": "qemu:///system"}}, supports_check_mode=True
    )
    uri = module.params["uri"]
    if urlsplit(uri).netloc:
        module.fail_json(
            msg=f"{uri} is another machine; what a host can do is read from the host itself: run this there"
        )
    module.exit_json(changed=False, **describe_host(survey_host(uri)))


if __name__ == "__main__":
    main()
