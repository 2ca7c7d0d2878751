# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input that needs no host to be seen: refused with all that is wrong in one error."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.validation import (
    check_domain,
    check_new_domain,
    check_share,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.values import check_uri
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.tests.unit.support import domain, share

DATA = {"tag": "data", "source": "/srv"}
MAC = "52:54:00:12:34:56"

GOOD_TAGS = ["a", "nix-store-share", "x" * 36, "ü" * 18, "a b", "<&>"]
BAD_TAGS = [
    ("", "the tag is empty"),
    ("x" * 37, "the tag has 37 bytes, QEMU takes at most 36"),
    ("ü" * 19, "the tag has 38 bytes"),
    ("a\nb", "control character"),
    ("a\x00b", "control character"),
    ("a\x7f", "control character"),
]
GOOD_NAMES = ["vm", "a.b", "a b", "x" * 200, "ünïcode", "vm-1", "a,b=c"]
BAD_NAMES = [
    ("", "the name is empty"),
    ("a/b", "is not a file name"),
    ("a\nb", "control character"),
    ("-vm", "starts with a dash"),
    (".vm", "starts with a dash, a dot"),
    ("x" * 300, "has 300 bytes"),
    ("ü" * 101, "has 202 bytes"),
    ("<vm>", "not allowed: < >"),
    ("a&b", "not allowed: &"),
    ("a\"b'", "not allowed: \" '"),
]
BAD_MACS = [
    ("52:54:00:12:34", "is not a MAC address"),
    ("52:54:00:12:34:5g", "is not a MAC address"),
    ("52-54-00-12-34-56", "is not a MAC address"),
    ("525400123456", "is not a MAC address"),
    ("", "is not a MAC address"),
    ("53:54:00:12:34:56", "is a multicast address"),
    ("ff:ff:ff:ff:ff:ff", "is a multicast address"),
]
BAD_SHARES = [
    *(
        ({**DATA, "translate_uid": text}, problem)
        for text, problem in (
            ("0:1000:1", "is not a mapping"),
            ("map:0:1000:1,--writeback", "is not a mapping"),
            ("map:0:1000:1\n", "is not a mapping"),
            ("map:0:1000:0", "exceeds the ids"),
            ("squash-guest:1:0:4294967296", "exceeds the ids"),
            ("map:0:4294967296:1", "exceeds the ids"),
        )
    ),
    ({"tag": "data"}, "exactly one of source and socket is required"),
    ({**DATA, "socket": "/run/s"}, "exactly one of source and socket is required"),
    ({"tag": "data", "source": "srv"}, "'srv' is not an absolute path"),
    ({"tag": "data", "source": ""}, "is not an absolute path"),
    ({"tag": "data", "source": "/var/lib/keystone-virtiofs/domains/x/ro/%2Fetc"}, "named like a bind mount"),
    ({"tag": "data", "source": "/a\nb"}, "contains a control character"),
    ({"tag": "data", "socket": "run/s"}, "is not an absolute path"),
    ({**DATA, "queue_size": 0}, "0 is not a power of two between 1 and 1024"),
    ({**DATA, "queue_size": 1000}, "is not a power of two"),
    ({**DATA, "queue_size": 2048}, "is not a power of two"),
    ({**DATA, "queue_size": -2}, "is not a power of two"),
    ({**DATA, "thread_pool_size": -1}, "is not between 0 and 1024"),
    ({**DATA, "open_files": 609}, "is not between 1024"),
    (
        {"tag": "data", "socket": "/run/s", "read_only": True},
        "read_only: cannot be combined with socket",
    ),
    ({"tag": "data", "socket": "/run/s", "cache": "none"}, "cache: cannot be combined with socket"),
]
BAD_DOMAINS = [
    ({"memory": 0}, "memory: 0 is not between 64"),
    ({"memory": -1}, "memory: -1 is not between"),
    ({"memory": 2**40}, "memory: 1099511627776 is not between"),
    ({"vcpus": 0}, "vcpus: 0 is not between 1 and 4096"),
    ({"vcpus": 100000}, "vcpus: 100000 is not between"),
    ({"shares": [DATA, {**DATA, "source": "/b"}]}, "shares: tag 'data' is used twice"),
    ({"disks": [{"path": "/a", "size": 1}] * 2}, "disks: disk '/a' is used twice"),
    ({"disks": [{"pool": "p", "volume": "v"}] * 2}, "disks: disk 'p/v' is used twice"),
    ({"disks": [{"size": 1}]}, "disks: exactly one of path, or pool and volume, is required"),
    ({"disks": [{"pool": "p"}]}, "disks: exactly one of path, or pool and volume, is required"),
    (
        {"disks": [{"path": "/a", "pool": "p", "volume": "v"}]},
        "disks: exactly one of path, or pool and volume, is required",
    ),
    ({"disks": [{"path": "a.qcow2"}]}, "is not an absolute path"),
    ({"disks": [{"path": "/a", "size": 0}]}, "disks[0].size: 0 is not between"),
    (
        {"disks": [{"pool": "p", "volume": "../x"}]},
        "disks[0].volume: '../x' is not a file name",
    ),
    ({"interfaces": [{"mac": MAC}, {"mac": MAC.upper()}]}, f"interfaces: MAC address '{MAC}' is used twice"),
    ({"interfaces": [{"type": "bridge"}]}, "needs source, the name of the bridge"),
    ({"interfaces": [{"type": "user", "source": "x"}]}, "user networking has no source"),
    ({"interfaces": [{"forwards": [{"host_port": 1, "guest_port": 1}]}]}, "only interfaces of type user forward"),
    ({"interfaces": [{"type": "user", "forwards": [{"host_port": 0, "guest_port": 22}]}]}, "0 is not between 1"),
    ({"interfaces": [{"type": "user", "forwards": [{"host_port": 22, "guest_port": 70000}]}]}, "70000 is not between"),
    *(
        (
            {"interfaces": [{"type": "user", "forwards": [{"address": text, "host_port": 1, "guest_port": 2}]}]},
            "not an IPv4",
        )
        for text in ("", "localhost", "::1", "127.0.0.1,x=y", "127.0.0.1:1-:1")
    ),
    ({"firmware": "bios", "secure_boot": "setup"}, "secure_boot: needs firmware uefi"),
    ({"cmdline": "quiet"}, "kernel: required by initrd and cmdline"),
    ({"kernel": "/k", "cmdline": "é" * 1024}, "cmdline: the command line has 2048 bytes, Linux reads at most 2047"),
    ({"initrd": "/boot/initrd"}, "kernel: required by initrd and cmdline"),
    ({"kernel": "vmlinuz"}, "kernel: 'vmlinuz' is not an absolute path"),
    ({"iso": "x.iso"}, "iso: 'x.iso' is not an absolute path"),
    ({"serial_log": "log"}, "serial_log: 'log' is not an absolute path"),
    ({"state": "stopped", "wait_for": "ssh"}, "wait_for: cannot be combined with state=stopped"),
    ({"state": "absent", "wait_for": "running"}, "wait_for: cannot be combined with state=absent"),
    ({"wait_timeout": 0}, "wait_timeout: 0 is not between"),
    ({"shutdown_timeout": -1}, "shutdown_timeout: -1 is not between"),
    ({"hotplug_ports": 33}, "hotplug_ports: 33 is not between"),
]


def refusal(**given: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_domain(domain(**given))
    assert caught.value.fix == "Nothing was changed; correct the task."
    return str(caught.value)


@pytest.mark.parametrize("tag", GOOD_TAGS)
def test_good_tags(tag: str) -> None:
    check_domain(domain(shares=[{**DATA, "tag": tag}]))
    check_share(share(**{**DATA, "tag": tag}))


@pytest.mark.parametrize(("tag", "problem"), BAD_TAGS)
def test_bad_tags(tag: str, problem: str) -> None:
    assert problem in refusal(shares=[{**DATA, "tag": tag}])
    with pytest.raises(InvalidInput, match=problem):
        check_share(share(**{**DATA, "tag": tag}))


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names(name: str) -> None:
    check_domain(domain(name))


@pytest.mark.parametrize(("name", "problem"), BAD_NAMES)
def test_bad_names(name: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_new_domain(name)
    assert problem in caught.value.problem
    assert caught.value.problem.startswith("name: ")


@pytest.mark.parametrize(("mac", "problem"), BAD_MACS)
def test_bad_macs(mac: str, problem: str) -> None:
    assert problem in refusal(interfaces=[{"mac": mac}])


@pytest.mark.parametrize(("given", "problem"), BAD_SHARES)
def test_bad_shares(given: dict[str, Any], problem: str) -> None:
    text = refusal(shares=[given])
    assert problem in text
    assert "data" in text or "shares[0]" in text
    with pytest.raises(InvalidInput) as caught:
        check_share(share(**given))
    assert problem in str(caught.value)
    assert (caught.value.domain, caught.value.share) == ("vm", "data")


@pytest.mark.parametrize(("given", "problem"), BAD_DOMAINS)
def test_bad_domains(given: dict[str, Any], problem: str) -> None:
    text = refusal(**given)
    assert text.startswith("domain vm: ")
    assert problem in text


def test_everything_that_is_wrong_is_in_one_error() -> None:
    text = refusal(memory=0, vcpus=0, shares=[{"tag": "x" * 40, "source": "a"}], interfaces=[{"mac": "x"}])
    for option in ("memory:", "vcpus:", "shares[0].tag:", "shares[0].source:", "interfaces[0].mac:"):
        assert option in text


def test_a_share_that_goes_needs_no_source() -> None:
    check_share(share(state="absent"))


@pytest.mark.parametrize(
    "uri",
    [
        *("qemu:///system", "qemu:///session", "qemu+unix:///system?socket=/proc/12/root/run/libvirt/libvirt-sock"),
        *("qemu+ssh://root@host.example.org:2222/system", "qemu+ssh://[::1]/system", "qemu+tls://host/system"),
        *("qemu+ssh://root@127.0.0.1/system?keyfile=/root/.ssh/id_ed25519&no_verify=1", "test:///default"),
    ],
)
def test_a_uri_that_only_connects(uri: str) -> None:
    assert check_uri(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        *("qemu+ext://x/system?command=/srv/evil.sh", "qemu+ssh://x/system?command=/srv/evil.sh", "qemu+ext:///system"),
        *("qemu+ssh://x/system?netcat=evil", "qemu+unix:///system?socket=/a&command=/b", "qemu:///embed?root=/srv"),
        *(
            "qemu+ssh://-oProxyCommand=evil/system",
            "qemu+ssh://x/system?keyfile=/a;b",
            "lxc:///",
            "",
            "qemu:///system\n",
        ),
    ],
)
def test_a_uri_that_names_a_command_is_refused(uri: str) -> None:
    assert "is not qemu:///system" in (check_uri(uri) or "")


@pytest.mark.parametrize(
    "given",
    [
        {"firmware": "uefi", "secure_boot": "enrolled"},
        {"secure_boot": "setup"},
        {"firmware": "bios", "secure_boot": "off"},
        {"xml": "<domain/>", "cmdline": "quiet"},
        {"state": "running", "wait_for": "ssh"},
        {"iso": ""},
        {"interfaces": [{"type": "user"}, {"type": "bridge", "source": "br0"}, {}]},
        {"disks": [{"path": "/a"}, {"pool": "p", "volume": "v"}]},
    ],
)
def test_what_is_fine(given: dict[str, Any]) -> None:
    check_domain(domain(**given))
