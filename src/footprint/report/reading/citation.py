"""Who made this, under which licence, and how it is cited: CITATION.cff as the page says it."""

from dataclasses import dataclass

import yaml

from footprint.measure.provenance import REPOSITORY


@dataclass(frozen=True, kw_only=True)
class Citation:
    """What whoever quotes the page needs; all plain text."""

    authors: str
    title: str
    version: str
    licence: str
    repository: str | None
    """Its address, where CITATION.cff names one."""


def citation() -> Citation:
    """What CITATION.cff says."""
    said = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    authors = [entry.get("name") or f"{entry['given-names']} {entry['family-names']}" for entry in said["authors"]]
    return Citation(
        authors=", ".join(authors),
        title=said["title"],
        version=str(said["version"]),
        licence=said["license"],
        repository=said.get("repository-code"),
    )
