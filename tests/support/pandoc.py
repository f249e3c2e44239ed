"""Pandoc, which Quarto renders with: what a Markdown document is to it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

PROGRAM = shutil.which("pandoc")
REQUIRED = os.environ.get("FOOTPRINT_REQUIRE_PANDOC") == "1"

needs_pandoc = pytest.mark.skipif(
    PROGRAM is None and not REQUIRED, reason="no pandoc here; on Debian: apt-get install pandoc"
)


def pandoc(markdown: str) -> dict:
    """The document as pandoc reads it."""
    assert PROGRAM, "FOOTPRINT_REQUIRE_PANDOC=1 but no pandoc is installed"
    command = [PROGRAM, "--from=markdown", "--to=json"]
    return json.loads(subprocess.run(command, input=markdown, capture_output=True, text=True, check=True).stdout)


def elements(part: object) -> Iterator[tuple[str, object]]:
    """(kind, content) of everything in a part of a document, outer before inner."""
    if isinstance(part, list):
        for inner in part:
            yield from elements(inner)
    elif isinstance(part, dict):
        if "t" in part:
            yield part["t"], part.get("c")
        yield from elements(part.get("c"))
