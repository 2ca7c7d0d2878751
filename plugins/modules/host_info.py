#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gather information about a host's virtiofs support and what prevents it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Gather information about a host's virtiofs support and what prevents it
version_added: 1.0.0
description:
  - Reports the versions of libvirt, QEMU and virtiofsd, whether KVM works (proven by running QEMU), the
    firmware and TPM support for guests, and for each virtiofs feature what it needs and whether this host
    has it.
  - Problems are returned as RV(findings), each with its severity and its fix. The module does not fail on a host that
    is not ready; see RV(ready).
  - The module reads the host itself, so run it there. A remote O(uri) is refused.
author: keystone contributors (@ncrmro)
options:
  uri:
    description:
      - Connection URI of libvirt.
    type: str
    default: qemu:///system
attributes:
  check_mode:
    description: Never changes anything.
    support: full
  diff_mode:
    description: Nothing is ever changed.
    support: N/A
requirements:
  - libvirt-python on the host; a finding reports if it is missing
seealso:
  - module: keystone.virtiofs.domain_info
  - module: keystone.virtiofs.store_info
"""

EXAMPLES = r"""
- name: Gather information about the host
  keystone.virtiofs.host_info:
  register: host

- name: Stop and name every fix if shares cannot work
  ansible.builtin.assert:
    that: host.ready
    fail_msg: >-
      {{ host.findings | selectattr('severity', 'eq', 'error') | map(attribute='fix') | join('; ') }}
"""

RETURN = r"""
ready:
  description: Whether shares can work; true if no finding has the severity V(error).
  returned: success
  type: bool
  sample: true
versions:
  description: Versions in use; null for a program that is not installed or cannot be queried.
  returned: success
  type: dict
  contains:
    libvirt:
      description: Version of libvirt.
      type: str
    qemu:
      description: Version of QEMU.
      type: str
    virtiofsd:
      description: Version of virtiofsd.
      type: str
  sample: {libvirt: 11.3.0, qemu: 10.0.13, virtiofsd: 1.13.2}
virtiofsd:
  description: The daemon that libvirt uses unless a share names another.
  returned: success
  type: dict
  contains:
    path:
      description: Its path; null if none is installed.
      type: str
      sample: /usr/libexec/virtiofsd
    legacy:
      description: Whether it is the C daemon of QEMU up to 7.2, whose version is QEMU's.
      type: bool
      sample: false
kvm:
  description: Whether QEMU runs guests with KVM.
  returned: success
  type: dict
  contains:
    usable:
      description: Whether a guest ran with KVM.
      type: bool
      sample: false
    reason:
      description: Why KVM is unusable; empty if it is usable.
      type: str
      sample: "/usr/bin/qemu-system-x86_64 with KVM ended with status -6: failed to set MSR 0x10a to 0x69"
    smm:
      description: Whether guests with KVM have the System Management Mode that Secure Boot needs.
      type: bool
      sample: false
emulator:
  description: QEMU for this machine's architecture; null if none is installed.
  returned: success
  type: str
  sample: /usr/bin/qemu-system-x86_64
firmware:
  description: What the installed firmware supports.
  returned: success
  type: dict
  contains:
    uefi:
      description: Whether guests can use UEFI.
      type: bool
      sample: true
    secure_boot:
      description: Whether guests can use Secure Boot with enrolled keys.
      type: bool
      sample: true
    setup_mode:
      description: Whether guests can use Secure Boot in setup mode, to enrol their own keys.
      type: bool
      sample: true
swtpm:
  description: Whether guests can have a TPM.
  returned: success
  type: bool
  sample: true
vsock:
  description: Whether guests can have a vsock.
  returned: success
  type: bool
  sample: true
memfd:
  description: Whether guests can have the shared memory that virtiofs needs.
  returned: success
  type: bool
  sample: true
apparmor:
  description: Whether AppArmor confines libvirt, and thereby which virtiofsd it may run.
  returned: success
  type: bool
  sample: false
systemd:
  description: Whether systemd manages the services.
  returned: success
  type: bool
  sample: true
features:
  description: All virtiofs features.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier of the feature; for most of them the name of the share option.
      type: str
      sample: read_only
    summary:
      description: What the feature does.
      type: str
      sample: read-only, enforced by virtiofsd
    needs:
      description: The versions that the feature requires.
      type: str
      sample: libvirt >= 11.0.0, virtiofsd >= 1.13.0
    available:
      description: Whether this host supports the feature.
      type: bool
      sample: true
    reason:
      description: What is missing; empty if the feature is available.
      type: str
      sample: ""
findings:
  description: Problems and hints, the most severe first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Stable identifier of the finding.
      type: str
      sample: kvm_unusable
    severity:
      description: V(error) prevents shares from working, V(warning) makes guests slower, V(info) is a hint.
      type: str
      sample: warning
    problem:
      description: The problem.
      type: str
      sample: "KVM is unusable, so guests run emulated (TCG), many times slower: there is no /dev/kvm"
    fix:
      description: The fix.
      type: str
      sample: Enable virtualization (VT-x, AMD-V) in the firmware
problem:
  description: What failed. C(msg) combines it with RV(fix).
  returned: failure
  type: str
  sample: "uri: qemu+ssh://other/system is another machine, and this module reads the host itself"
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: Run the task on that machine.
failed_domain:
  description: Always null, because the module looks at no domain.
  returned: failure
  type: str
  sample: null
failed_share:
  description: Always null, because the module looks at no share.
  returned: failure
  type: str
  sample: null
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

# Ends on a Python that is too old for the rest.
from ansible_collections.keystone.virtiofs.plugins.module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ansible_collections.keystone.virtiofs.plugins.module_utils._features import (
    FEATURES,
    format_version,
    needs,
    unavailable,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.findings import find_problems
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.survey import survey_host
from ansible_collections.keystone.virtiofs.plugins.module_utils._module import Module

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
        "vsock": facts.vsock,
        "memfd": facts.memfd,
        "apparmor": facts.apparmor,
        "systemd": facts.systemd,
        "features": describe_features(facts),
        "findings": [asdict(finding) for finding in findings],
    }


def main() -> None:
    module = Module(argument_spec={"uri": {"type": "str", "default": "qemu:///system"}}, supports_check_mode=True)
    uri = module.params["uri"]
    if urlsplit(uri).netloc:
        module.fail_json(
            msg=f"uri: {uri} is another machine, and this module reads the host itself",
            fix="Run the task on that machine.",
        )
    module.exit_json(changed=False, **describe_host(survey_host(uri)))


if __name__ == "__main__":
    main()
