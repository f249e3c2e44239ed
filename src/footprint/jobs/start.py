"""What must be so before a Snakefile plans: where it was started, with which interpreter, on which device."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from footprint.errors import FootprintError


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
    """Let the device of a profile (FOOTPRINT_DEVICE) outlast a `--config` that names none, and its card
    (FOOTPRINT_DEFAULT_CARD) stand where neither files nor `--config` name one.

    Snakemake replaces the profile's whole `config` by what the command line gives (`given`); the experiment
    would then run on another device than the profile's name says.
    """
    if "device" not in given and "FOOTPRINT_DEVICE" in os.environ:
        config["device"] = os.environ["FOOTPRINT_DEVICE"]
    if config.get("card") is None and "FOOTPRINT_DEFAULT_CARD" in os.environ:
        config["card"] = os.environ["FOOTPRINT_DEFAULT_CARD"]
