"""What the page's worker calls. All of it is imported when the site is built, and a browser starts from there."""

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from footprint.command.calculator.answer import parts
from footprint.command.calculator.nearest import Reference
from footprint.command.calculator.question import parser_of_predict, sizes_in
from footprint.errors import FootprintError
from footprint.spec.cards import catalogue

FOLDER = Path("/published")
"""Where an opened config.json lies while it is read."""

REFERENCE = Path("/reference.json")


def prepare() -> None:
    """Read what every question needs."""
    catalogue()
    parser_of_predict()


def answers(state: str) -> Iterator[str]:
    """Every part of the answer to a state, each as JSON; the state is JSON too."""
    for part in parts(json.loads(state), _reference()):
        yield json.dumps(part)


@cache
def _reference() -> list[Reference]:
    return json.loads(REFERENCE.read_text(encoding="utf-8"))


def config_read(name: str, content: bytes) -> str:
    """What an opened file says of a model, as JSON: its `sizes`, or the `mistake` that it is."""
    FOLDER.mkdir(exist_ok=True)
    os.chdir(FOLDER)
    file = Path(name)
    file.write_bytes(content)
    try:
        return json.dumps({"sizes": sizes_in(file)})
    except FootprintError as error:
        return json.dumps({"mistake": str(error)})
    finally:
        file.unlink()
