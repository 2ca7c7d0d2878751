# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.keystone.virtiofs.plugins.filter.status_report import format_status
from ansible_collections.keystone.virtiofs.tests.unit import hostile

TIME = "2026-11-26T17:39:22+00:00"
HOSTS = {"where": "host", "id": "kvm_unusable", "severity": "warning", "problem": "no KVM", "fix": "enable it"}
INFO = {**HOSTS, "id": "no_uefi", "severity": "info", "problem": "no UEFI"}
SILENT = {"where": "guest", "id": "guest_silent", "severity": "error", "problem": "no answer", "fix": "verify"}
WEB: dict[str, Any] = {
    "guest": "web",
    "host": "alpha",
    "state": "running",
    "starting": False,
    "answers": True,
    "address": "192.0.2.20",
    "port": 22,
    "system": {"os": "nixos", "version": "26.05", "path": "/nix/store/x", "generation": 12},
    "store_mode": "closure",
    "shares": [{"tag": "nix-store-share", "mounted": True}, {"tag": "projects", "mounted": False}],
    "layer": {"size": 2**30, "used": 2**28},
    "kvm": False,
    "verification": {"time": "2026-11-22T12:00:00+00:00", "pass": 30, "fail": 0, "not_applicable": 3},
    "findings": [HOSTS, INFO],
}
COLUMNS = [*"GUEST HOST STATE ADDRESS SYSTEM STORE SHARES LAYER KVM FINDINGS".split(), "VERIFIED (UTC)"]
UNKNOWN = ("address", "port", "system", "store_mode", "layer", "kvm", "verification")
MAIL = {**WEB, **dict.fromkeys(UNKNOWN), "guest": "mail", "answers": False, "shares": [], "findings": [HOSTS, SILENT]}


def test_another_format_is_refused_with_those_that_exist() -> None:
    with pytest.raises(AnsibleFilterError, match="'xml'; use table, json, prom or html"):
        format_status([WEB], "xml")


class TestTable:
    def test_a_guest_is_a_line_and_its_problems_follow_with_their_fixes(self) -> None:
        heading, rule, *rest = format_status([WEB, MAIL], "table", width=160).split("\n")
        assert "  ".join(heading.split()).replace("VERIFIED  ", "VERIFIED ") == "  ".join(COLUMNS)
        assert set(rule) == {"-"}
        assert [re.split("  +", line) for line in rest[:2]] == [
            [
                "web",
                "alpha",
                "running",
                "192.0.2.20",
                "nixos 26.05 generation 12",
                "closure",
                "1 of 2",
                "25% of 1.0 GiB",
                "no",
                "1 warning",
                "passed 2026-11-22 12:00",
            ],
            ["mail", "alpha", "running, silent", "-", "-", "-", "-", "-", "-", "1 error, 1 warning", "-"],
        ]
        assert rest[2:] == [
            rule,
            "2 guests (2 running), 1 error, 1 warning",
            "ERROR mail: no answer",
            "  fix: verify",
            "WARNING alpha: no KVM",
            "  fix: enable it",
        ]

    @pytest.mark.parametrize("width", range(60, 150, 5))
    def test_a_narrow_terminal_gets_fewer_columns_and_never_longer_lines(self, width: int) -> None:
        lines = format_status([{**WEB, "guest": "w" * 40}, MAIL], "table", width=width).split("\n")
        assert max(map(len, lines)) <= width
        below = " ".join(lines[5:])
        assert all(name in lines[0] or name in below for name in COLUMNS)

    def test_no_guests_are_no_error(self) -> None:
        assert format_status([], "table").split("\n")[3] == "0 guests, no findings"


def test_json_has_everything() -> None:
    assert json.loads(format_status([WEB, MAIL], "json", time=TIME)) == {"time": TIME, "guests": [WEB, MAIL]}


# https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
SAMPLE = re.compile(r'[a-z_]+(\{[a-z_]+="([^"\\\n]|\\[\\n"])*"(,[a-z_]+="([^"\\\n]|\\[\\n"])*")*\})? [0-9]+')


INFO_OF_WEB = (
    'guest_info{guest="web",host="alpha",state="running",store_mode="closure",'
    'os="nixos",version="26.05",path="/nix/store/x",generation="12"} 1'
)


class TestPrometheus:
    def test_a_metric_has_one_group_of_samples(self) -> None:
        text = format_status([WEB, MAIL], "prom", time=TIME)
        assert text.endswith("\n")
        lines = text.splitlines()
        assert all(SAMPLE.fullmatch(line) for line in lines if not line.startswith("#"))
        names = [re.split("[{ ]", line)[0] for line in lines if not line.startswith("#")]
        assert sorted(set(names), key=names.index) == [line.split()[2] for line in lines if line.startswith("# TYPE")]

    @pytest.mark.parametrize(
        "sample",
        [
            "status_timestamp_seconds 1795714762",
            INFO_OF_WEB,
            'guest_answers{guest="mail",host="alpha"} 0',
            'share_mounted{guest="web",host="alpha",tag="projects"} 0',
            'layer_used_bytes{guest="web",host="alpha"} 268435456',
            'findings{guest="mail",host="alpha",severity="error"} 1',
            'verification_checks{guest="web",host="alpha",result="pass"} 30',
        ],
    )
    def test_a_sample(self, sample: str) -> None:
        assert f"keystone_virtiofs_{sample}" in format_status([WEB, MAIL], "prom", time=TIME).splitlines()

    @pytest.mark.parametrize("text", hostile.TEXTS, ids=hostile.label)
    def test_a_hostile_name_stays_a_label(self, text: str) -> None:
        status = {**WEB, "guest": text, "shares": [{"tag": text, "mounted": True}]}
        lines = format_status([status], "prom", time=TIME).split("\n")[:-1]
        assert [line for line in lines if not line.startswith("# ") and not SAMPLE.fullmatch(line)] == []


class Page(HTMLParser):
    """The elements of a page with their attributes, and their texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class TestPage:
    """Rendered in a browser by tests/site."""

    def test_it_refers_to_nothing(self) -> None:
        page = Page(format_status([WEB, MAIL], "html", time=TIME))
        links = [
            value for _tag, attributes in page.elements for key in ("src", "href") if (value := attributes.get(key))
        ]
        assert links == ["data:,"]

    def test_each_guest_is_a_row(self) -> None:
        page = Page(format_status([WEB, MAIL], "html", time=TIME))
        assert [attributes["scope"] for tag, attributes in page.elements if tag == "th"] == ["col"] * 11 + ["row"] * 2
        assert {"web", "mail", "running, silent", "nixos 26.05 generation 12", TIME} <= set(page.texts)

    def test_without_findings_it_says_so(self) -> None:
        assert "There are no errors or warnings." in Page(format_status([{**WEB, "findings": []}], "html", TIME)).texts

    @pytest.mark.parametrize("text", hostile.TEXTS, ids=hostile.label)
    def test_a_hostile_value_stays_text(self, text: str) -> None:
        finding = {**SILENT, "problem": text, "fix": text}
        hostile_guest = {**WEB, "guest": text, "host": text, "address": text, "store_mode": text, "findings": [finding]}
        harmless = {**hostile_guest, "guest": "x", "host": "x", "address": "x", "store_mode": "x"}
        harmless["findings"] = [{**SILENT, "problem": "x", "fix": "x"}]
        pages = [Page(format_status([status], "html", time=TIME)) for status in (hostile_guest, harmless)]
        assert pages[0].elements == pages[1].elements
