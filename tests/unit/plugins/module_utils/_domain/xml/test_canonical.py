# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes two documents the same."""

from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml


def digest(inner: str) -> str:
    return DomainXml(f"<domain>{inner}</domain>").digest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<a x='1' y='2'/>", "<a y='2'   x='1'></a>"),
        ("<a/><b/>", "\n <a/>\n\t<b/>  <!-- c --> "),
        ("<a>text</a>", "<a>te<!-- c -->xt</a>"),
        ("<a>text</a>", "<a><![CDATA[te]]>xt</a>"),
        ("<a><b/></a>", "<a> <!-- c --> <b/> <?pi?> </a>"),
        ("<a xmlns='unraid'/>", "<u:a xmlns:u='unraid'/>"),
        ("<p:a xmlns:p='urn:x' p:y='1'/>", "<q:a xmlns:q='urn:x' q:y='1'/>"),
        ("<a>&#252;</a>", "<a>ü</a>"),
        ("<a x='&quot;&apos;'/>", '<a x="&quot;\'"/>'),
    ],
)
def test_the_same(one: str, other: str) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<a/>", "<b/>"),
        ("<a/>", "<a x=''/>"),
        ("<a/>", "<a> </a>"),
        ("<a>1</a>", "<a>1 </a>"),
        ("<a/><b/>", "<b/><a/>"),
        ("<a/>b", "<a>b</a>"),
        ("<a>b<c/></a>", "<a><c/>b</a>"),
        ("<a/><a/>", "<a/>"),
        ("<a xmlns='unraid'/>", "<a/>"),
        ("<a xmlns='urn:x'/>", "<a xmlns='urn:y'/>"),
        ("<a x='1'/>", "<p:a xmlns:p='urn:x' p:x='1'/>"),
        ("<a><b/></a>", "<a/><b/>"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert digest(one) != digest(other)
