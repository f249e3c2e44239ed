"""Build the calculator as static files, which any host serves."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from footprint.command import script as command
from footprint.command.calculator.site import PYODIDE, build
from footprint.spec.units import format_bytes


def main(arguments: Namespace) -> None:
    size, folder = build(arguments.output, arguments.pyodide), arguments.output
    print(f"{folder}: {format_bytes(size)}; look at it with python -m http.server --directory {folder}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    kept = Path("build") / f"pyodide-{PYODIDE}.tgz"
    parser.add_argument("--output", type=Path, default=Path("site"), help="folder to write")
    parser.add_argument("--pyodide", type=Path, default=kept, help="the npm package; fetched if absent")
    command.run(parser, main)
