"""Build the calculator as static files: the page, Python for the browser, the predictor, the reference tables.

Pyodide comes from its npm package, checked against the hash below, and is served from the site itself.
"""

import base64
import csv
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template

from footprint.command.arguments import AXES
from footprint.command.calculator.question import sizes_of
from footprint.errors import FootprintError
from footprint.spec.block import CHOICES
from footprint.spec.cards import catalogue
from footprint.spec.columns import INTEGERS
from footprint.spec.model import BLOCKS, TARGETS, ModelSpec
from footprint.spec.presets import PRESETS
from footprint.spec.run import AXES as AXIS_NAMES
from footprint.spec.run import AXIS_DEFAULTS
from footprint.spec.units import format_bytes

REPOSITORY = Path(__file__).resolve().parents[4]

PYODIDE = "0.29.5"
SHA512 = "TkYrUv9m8QmfImADKRmpwZulL48E0uUaBSO+dvRQKyAJc0qh9gu7jn8btyHPh3NZm1r2IH2YrJhIr7Q2B9urAw=="
"""Of the npm package, as the registry and a lockfile of npm have it (base64)."""

RUNTIME = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "pyodide-lock.json", "python_stdlib.zip", "README.md")
"""Files of the package that a page needs, and where it says what it is."""

ROOMS = ("spec", "predict", "command")
"""Parts of the predictor that run in a browser; what needs NumPy or another process stays here."""

_HERE = ("calculator/site", "main", "ranks", "rehearsal", "trainers")
LEFT_OUT = ("predict/many/", *(f"command/{name}.py" for name in _HERE))

FIRST = {
    "model": "llama-7b",
    "regime": "qlora",
    "rank": "16",
    "batch": "4",
    "seq": "2048",
    "sharding": "fsdp",
    "card": "a10g",
}
"""What stands in the page when it is opened."""

UNTOLD = AXIS_DEFAULTS | {name: FIRST[name] for name in ("regime", "sharding")}
"""What stands in a field of which a link says nothing: what the command line takes then, and a regime, which it must be
told."""

REQUIRED = {"layers": "layers", "width": "width", "heads": "heads", "vocab": "vocabulary", "context": "context"}
OPTIONAL = {
    "kv_heads": "key/value heads",
    "head_width": "head width",
    "mlp_width": "MLP width",
    "rotary_width": "rotary width",
}
"""Sizes of a custom model and what the page calls them."""


def build(output: Path, package: Path) -> int:
    """Write the site to the folder `output`, whole or not at all; returns its bytes."""
    content = _pyodide(package)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".site-") as folder:
        site = Path(folder) / "site"
        parts = site / "parts"
        (parts / "pyodide").mkdir(parents=True)
        for name, data in content.items():
            (parts / "pyodide" / name).write_bytes(data)
        for name in ("draw.js", "page.js", "worker.js", "icon.svg"):
            shutil.copyfile(REPOSITORY / "calculator" / name, parts / name)
        (parts / "calculator.css").write_text(style(), encoding="utf-8")
        (parts / "reference.json").write_text(json.dumps(list(reference())), encoding="utf-8")
        _zip_predictor(parts / "footprint.zip")
        _snapshot(parts)
        parts = parts.rename(site / _name_of(parts))
        (site / "index.html").write_text(page(parts.name), encoding="utf-8")
        shutil.rmtree(output, ignore_errors=True)
        site.replace(output)
    return sum(path.stat().st_size for path in output.rglob("*") if path.is_file())


def _name_of(parts: Path) -> str:
    """A name that changes with any of the files, so that no browser takes some of them from an older site."""
    whole = hashlib.sha256()
    for path in sorted(path for path in parts.rglob("*") if path.is_file()):
        whole.update(path.relative_to(parts).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:12]


# --- Pyodide ---------------------------------------------------------------------------------------------------------


def _pyodide(package: Path) -> dict[str, bytes]:
    """The files of RUNTIME from the npm package, which is fetched unless it lies at `package`."""
    if not package.exists():
        _fetch(package)
    found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if found != SHA512:
        raise FootprintError(
            f"{package}: its sha512 is {found}, not that of Pyodide {PYODIDE}; delete it and try again"
        )
    with tarfile.open(package) as archive:
        return {name: archive.extractfile(f"package/{name}").read() for name in RUNTIME}


def _fetch(package: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FootprintError("npm: is not installed; on Debian: apt-get install npm")
    package.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=package.parent) as folder:
        command = [npm, "pack", f"pyodide@{PYODIDE}", "--silent", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = " ".join(done.stderr.split())[-300:]
            raise FootprintError(f"npm: cannot fetch pyodide@{PYODIDE} ({why}); the npm registry has to be reached")
        next(Path(folder).glob("*.tgz")).replace(package)


# --- the predictor ---------------------------------------------------------------------------------------------------


def _zip_predictor(path: Path) -> None:
    """The modules that run in a browser, always as the same bytes."""
    source = REPOSITORY / "src"
    package = source / "footprint"
    files = [package / name for name in ("__init__.py", "errors.py", "files.py")]
    for room in ROOMS:
        files += [file for file in sorted((package / room).rglob("*")) if file.suffix in (".py", ".toml")]
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            if not file.relative_to(package).as_posix().startswith(LEFT_OUT):
                name = zipfile.ZipInfo(file.relative_to(source).as_posix())
                archive.writestr(name, file.read_bytes(), zipfile.ZIP_DEFLATED)


def _snapshot(parts: Path) -> None:
    """The memory of a Python that has the predictor imported; with it, a page answers several times sooner."""
    node = shutil.which("node")
    if node is None:
        raise FootprintError("node: is not installed; on Debian: apt-get install nodejs")
    memory = parts / "memory"
    script = REPOSITORY / "calculator" / "snapshot.mjs"
    command = [node, str(script), str(parts / "pyodide"), str(parts / "footprint.zip"), str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FootprintError(
            f"node: cannot start Pyodide ({' '.join(done.stderr.split())[-300:]}); use Node 18 or newer"
        )
    for path in (memory, parts / "pyodide" / "pyodide.asm.wasm"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()


# --- the reference tables --------------------------------------------------------------------------------------------


def reference() -> Iterator[dict[str, object]]:
    """Every run of the committed tables that ended well, as `calculator.nearest` reads it."""
    for comparison in sorted((REPOSITORY / "results" / "reference").rglob("comparison.csv")):
        measured = {
            tuple(row[name] for name in AXIS_NAMES): row for row in _rows(comparison.with_name("measurements.csv"))
        }
        for row in _rows(comparison):
            found = measured[tuple(row[name] for name in AXIS_NAMES)]
            if row["status"] == "ok" and row["peak_bytes_predicted"]:
                yield {name: _number(name, row[name]) for name in AXIS_NAMES} | {
                    "source": found["source"],
                    "where": found["device_name"],
                    "device": "cuda" if found["card"] else "cpu",
                    "card": found["card"] or None,
                    "peak_bytes": int(row["peak_bytes_measured"]),
                    "predicted_bytes": int(row["peak_bytes_predicted"]),
                    "textbook_bytes": int(row["textbook_bytes"]),
                }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _number(name: str, text: str) -> str | int:
    return int(text) if name in INTEGERS else text


# --- the page --------------------------------------------------------------------------------------------------------


def page(folder: str) -> str:
    """The page with everything that can be chosen on it; its other files are in a folder of that name."""
    template = Template((REPOSITORY / "calculator" / "index.html").read_text(encoding="utf-8"))
    required = "".join(_entry(name, says) for name, says in REQUIRED.items())
    optional = "".join(_entry(name, says, placeholder="as usual") for name, says in OPTIONAL.items())
    kinds = "".join(_choice(name, name.replace("_", " "), ("", *values), "") for name, values in CHOICES.items())
    return template.substitute(
        parts=folder,
        models="".join(map(_model, PRESETS.values())),
        sizes=required + _choice("block", "block", BLOCKS, "llama", **{"data-untold": "llama"}) + optional,
        kinds=kinds + _choice("tied_head", "tied head", ("", "true", "false"), ""),
        axes="".join(_axis(name) for name in AXES),
        cards="".join(
            f'<option value="{key}"{" selected" if key == FIRST["card"] else ""}>'
            f"{escape(card.name)}, {format_bytes(card.total)}</option>"
            for key, card in sorted(catalogue().items(), key=lambda entry: entry[1].name)
        ),
        version=version("footprint"),
        pyodide=PYODIDE,
    )


def _model(model: ModelSpec) -> str:
    """A preset, with its sizes as fields have them and, where positions are learned, how many there are."""
    sizes = {name: size for name, size in sizes_of(model).items() if name != "model"}
    told = {"value": model.name, "data-sizes": json.dumps(sizes)}
    told |= {"data-longest": str(model.context)} if model.kind.positions == "learned" else {}
    return f"<option{_attributes(told)}{' selected' if model.name == FIRST['model'] else ''}>{model.name}</option>"


def _axis(name: str) -> str:
    says, allowed = AXES[name]
    untold = str(UNTOLD[name])
    first, told = FIRST.get(name, untold), {"data-untold": untold}
    if not isinstance(allowed, str):
        return _choice(name, name, allowed, first, title=says, **told)
    told |= {"value": first, "placeholder": untold, "title": f"{says}: {allowed}"}
    if name == "targets":
        return _entry(name, name, list="sets", **told) + f'<datalist id="sets">{_options(TARGETS, None)}</datalist>'
    return _entry(name, name, **told)


def _entry(name: str, says: str, **attributes: str) -> str:
    told = {"name": name, "inputmode": "numeric"} | attributes
    if name == "targets":
        del told["inputmode"]
    return f"<label>{escape(says)} <input{_attributes(told)}></label>"


def _choice(name: str, says: str, values: tuple[str, ...], first: str, **attributes: str) -> str:
    chosen = f"<select{_attributes({'name': name} | attributes)}>{_options(values, first)}</select>"
    return f"<label>{escape(says)} {chosen}</label>"


def _attributes(told: dict[str, str]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in told.items())


def _options(values: object, first: str | None) -> str:
    return "".join(
        f'<option value="{value}"{" selected" if value == first else ""}>{value or "as the block has it"}</option>'
        for value in values
    )


def style() -> str:
    """The page's style, with the report's colours."""
    colours = re.search(r":root \{.*?\n\}", (REPOSITORY / "report" / "page.css").read_text(encoding="utf-8"), re.DOTALL)
    return f"{colours[0]}\n\n{(REPOSITORY / 'calculator' / 'calculator.css').read_text(encoding='utf-8')}"
