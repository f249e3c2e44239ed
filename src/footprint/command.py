"""What every command line shares: a user's error is one sentence on stderr and exit status 2, never a traceback."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from footprint.errors import FootprintError

USER_ERROR = 2
"""Exit status of a command whose input cannot be honoured, as argparse itself uses it."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a FootprintError raised inside the block into `error: ...` on stderr and exit status 2."""
    try:
        yield
    except FootprintError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(USER_ERROR) from None


def run(parser: ArgumentParser, action: Callable[[Namespace], object], arguments: list[str] | None = None) -> None:
    """Parse the command line and carry out `action` on it; a script's whole main function."""
    parsed = parser.parse_args(arguments)
    with user_errors():
        action(parsed)


def require_installed(extra: str, *packages: str) -> None:
    """Raise FootprintError where a package of the installation's `extra` is missing: a light one only predicts."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise FootprintError(
            f"this needs {', '.join(missing)}, not in a light installation; in the clone, run `make install` or "
            f"`pip install '.[{extra}]'`"
        )


def require_root(clone: Path) -> None:
    """Raise FootprintError unless this is the folder of the Snakefile, from which scripts and results are found."""
    if Path.cwd().resolve() != clone.resolve():
        raise FootprintError(f"directory: {Path.cwd()} is not the root of this clone; start Snakemake in {clone}")


def lend_interpreter(clone: Path) -> None:
    """Let `python` in every job started from here be this interpreter, with the source of this clone.

    Snakemake may be called by its path, without its environment being activated, and an environment may have been
    installed from another clone.
    """
    for name, folder in (("PATH", Path(sys.executable).parent), ("PYTHONPATH", clone / "src")):
        others = filter(None, os.environ.get(name, "").split(os.pathsep))
        os.environ[name] = os.pathsep.join([str(folder), *(other for other in others if other != str(folder))])


def keep_device(config: dict, given: Mapping[str, object]) -> None:
    """Let the device of a profile (FOOTPRINT_DEVICE) outlast a `--config` that names none.

    Snakemake replaces the profile's whole `config` by what the command line gives (`given`); the experiment
    would then run on another device than the profile's name says.
    """
    if "device" not in given and "FOOTPRINT_DEVICE" in os.environ:
        config["device"] = os.environ["FOOTPRINT_DEVICE"]
