"""The house: imports go along the arrows that docs/architecture.md draws, and a room says what it is for."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from clone import REPOSITORY

SOURCE = REPOSITORY / "src"
PACKAGE = SOURCE / "footprint"
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

EVERYBODYS = {"errors", "files"}
"""Modules that belong to no room."""

ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
MOST_LEVELS = 10


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it: of this package the module, of others the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in {name_of(module) for module in MODULES} else node.module for name in names)


IMPORTS = {name_of(path): set(imported(path)) for path in MODULES}


def arrows() -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second."""
    pairs = {
        (room_of(module), room_of(other)) for module, others in IMPORTS.items() for other in others if other in IMPORTS
    }
    return {(a, b) for a, b in pairs if a != b and a and b not in EVERYBODYS}


def drawn() -> set[tuple[str, str]]:
    drawing = ARCHITECTURE.split("```mermaid")[1].split("```")[0]
    return set(re.findall(r"^    (\w+) --> (\w+)$", drawing, flags=re.MULTILINE))


def reached(start: str, pairs: set[tuple[str, str]]) -> set[str]:
    """Rooms to which a way along the arrows leads."""
    found: set[str] = set()
    ahead = {start}
    while ahead:
        ahead = {b for a, b in pairs if a in ahead} - found
        found |= ahead
    return found


def test_every_import_goes_along_the_arrows_of_the_drawing():
    astray = {(a, b) for a, b in arrows() if a not in EVERYBODYS and b not in reached(a, drawn())}
    assert not astray


def test_every_arrow_of_the_drawing_is_an_import_and_none_is_drawn_twice():
    assert drawn() <= arrows()
    for a, b in drawn():
        assert b not in reached(a, drawn() - {(a, b)}), f"{a} --> {b} follows from the other arrows"


def test_the_drawing_the_table_and_the_readme_show_every_room():
    assert {room for pair in drawn() for room in pair} == set(ROOMS)
    tree = README.split("## What is where")[1].split("##")[0]
    assert sorted(re.findall(r"^  (\w+)/ ", tree, flags=re.MULTILINE)) == ROOMS
    table = re.findall(r"^\| \[`(\w+)/`\]", ARCHITECTURE, flags=re.MULTILINE)
    assert sorted(table) == ROOMS
    assert all(table.index(below) < table.index(above) for above, below in drawn())


def test_there_is_no_circle_among_modules_and_few_levels_among_rooms():
    TopologicalSorter({module: others & set(IMPORTS) for module, others in IMPORTS.items()}).prepare()
    levels: dict[str, int] = {}
    for room in TopologicalSorter({room: {b for a, b in arrows() if a == room} for room in ROOMS}).static_order():
        levels[room] = 1 + max((levels[b] for a, b in arrows() if a == room), default=0)
    assert max(levels.values()) <= MOST_LEVELS


def test_nothing_imports_the_report_or_the_command_line():
    assert not {(a, b) for a, b in arrows() if b in ("report", "command")}


def test_the_package_never_imports_snakemake():
    assert not [
        module for module, others in IMPORTS.items() if any(other.split(".")[0] == "snakemake" for other in others)
    ]


@pytest.mark.parametrize("room", ["spec", "text", "predict", "experiment"])
def test_these_rooms_never_bring_pytorch_or_the_measurer(room):
    modules = [module for module in IMPORTS if room_of(module) == room]
    program = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "peft", "bitsandbytes"}
    assert not [module for module in loaded if module.startswith(("footprint.measure.", "footprint.train."))]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_comes_in_what_goes_out_and_what_it_never_imports(room):
    says = " ".join(ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())).split())
    if room == "command":
        assert "Nothing below imports it" in says
    else:
        assert "Never imports" in says
    assert re.search(r"\. Comes in: .*\. Goes out: .*\.", says)


def test_every_path_that_the_architecture_names_exists():
    for name in re.findall(r"`([\w/]+\.\w+)`", ARCHITECTURE):
        assert any((folder / name).exists() for folder in (PACKAGE, SOURCE, REPOSITORY)), name
    for name in re.findall(r"`((?:report|experiment|predict|measure)/\w+)/?`", ARCHITECTURE):
        assert (PACKAGE / name).is_dir(), name
