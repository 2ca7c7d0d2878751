# SPDX-License-Identifier: GPL-3.0-or-later
"""Domain XML from other projects: the test data of libvirt and virt-manager, from Debian's source packages.

The packages are downloaded once, into .cache/corpus.
"""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lxml import etree

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache/corpus"
SOURCES = (
    "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {release} main\n"
)
# Source packages by release of Debian: each has another libvirt, with a schema and test data of its own.
PACKAGES = {"bookworm": ["libvirt"], "trixie": ["libvirt", "virt-manager"]}


class NoSourcePackage(Exception):
    """Many mirrors of Debian have no source packages."""


class Release:
    """What one release of Debian has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = CACHE / name

    @cached_property
    def schema(self) -> etree.RelaxNG:
        """libvirt's schema of domains."""
        folder = self.folder / "schemas"
        folder.mkdir(exist_ok=True)
        for name, content in _files(self._source("libvirt"), "/src/conf/schemas/", ".rng"):
            (folder / Path(name).name).write_bytes(content)
        return etree.RelaxNG(file=str(folder / "domain.rng"))

    def documents(self) -> Iterator[Document]:
        for package in PACKAGES[self.name]:
            for name, content in _files(self._source(package), "/tests/", ".xml"):
                yield from self._domains(f"{self.name}:{name}", content)

    def _domains(self, name: str, content: bytes) -> Iterator[Document]:
        try:
            root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
        except etree.XMLSyntaxError:
            return  # of these two packages' tests, all are about documents that are not domains, or not XML on purpose
        for number, element in enumerate(root.iter("domain")):
            if element.find("name") is not None:
                domain = etree.fromstring(etree.tostring(element, with_tail=False))
                text = etree.tostring(domain, encoding="unicode")
                yield Document(f"{name}#{number}" if number else name, text, self, self.schema.validate(domain))

    def _source(self, package: str) -> Path:
        """The upstream archive of a source package."""
        found = next(self.folder.glob(f"{package}_*.orig.tar.?z"), None)
        return found or self._download(package)

    def _download(self, package: str) -> Path:
        """With apt, which checks signatures. Only the archive: not every mirror has the other files."""
        (self.folder / "lists/partial").mkdir(parents=True, exist_ok=True)
        (self.folder / "sources.list").write_text(SOURCES.format(release=self.name))
        self._apt("apt-get", "update", "--error-on=any")
        files = self._apt("apt-get", "source", "--download-only", "--print-uris", package)
        # 'URI' NAME SIZE HASH
        uri, name, _size, checksum = next(line.split() for line in files.splitlines() if ".orig.tar." in line)
        self._apt("/usr/lib/apt/apt-helper", "download-file", uri.strip("'"), name, checksum)
        return self.folder / name

    def _apt(self, *command: str) -> str:
        """With lists of its own, because few machines have those of source packages."""
        options = {
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::Cache": self.folder,
            "APT::Sandbox::User": "root",  # _apt cannot write into a checkout
        }
        given = [f"--option={option}={value}" for option, value in options.items()]
        result = subprocess.run(
            [*command, *given], check=False, timeout=600, cwd=self.folder, text=True, capture_output=True
        )
        if result.returncode:
            raise NoSourcePackage(f"{' '.join(command)}: {result.stderr.strip()}")
        return result.stdout


class Document(NamedTuple):
    """A domain; ``is_valid`` by the schema of its release's libvirt."""

    name: str
    text: str
    release: Release
    is_valid: bool


def _files(archive: Path, folder: str, ending: str) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the files of an archive that lie in a folder and end so."""
    with tarfile.open(archive) as members:
        for member in members:
            if member.isfile() and folder in member.name and member.name.endswith(ending):
                content = members.extractfile(member)
                yield member.name, content.read() if content else b""


def corpus() -> list[Document]:
    """Every document once, whichever releases have it; the newest judges whether it is valid."""
    found = {document.text: document for name in PACKAGES for document in Release(name).documents()}
    return list(found.values())
