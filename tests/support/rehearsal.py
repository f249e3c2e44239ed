"""Programs rehearsed by the command line, where there is a CUDA build of PyTorch to rehearse with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clone import REPOSITORY

PYTHON = Path(os.environ.get("FOOTPRINT_REHEARSAL_PYTHON") or REPOSITORY / ".venv-rehearsal" / "bin" / "python")
"""The interpreter whose PyTorch is a CUDA build; `make install-rehearsal` makes it."""

REQUIRED = bool(os.environ.get("FOOTPRINT_REQUIRE_REHEARSAL"))

needs_cuda_build = pytest.mark.skipif(
    not PYTHON.exists() and not REQUIRED, reason="needs a CUDA build of PyTorch: make install-rehearsal"
)

needs_programs = pytest.mark.skipif(
    not (PYTHON.parents[1] / ".programs").exists() and not REQUIRED, reason="needs TRL: make install-programs"
)

PROGRAMS = REPOSITORY / "tests" / "rehearsal" / "programs"


def command(*arguments: str | Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """`footprint` in a process of its own."""
    program = "from footprint.command.main import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=300,
    )


def rehearsed(
    program: str,
    *arguments: str,
    card: str = "t4",
    options: tuple[str, ...] = (),
    launcher: tuple[str, ...] = (),
    python: Path = PYTHON,
    **environment: str,
):
    """(exit status, the answer as JSON, what the program and the command said) of one of PROGRAMS.

    `python` is the interpreter, `launcher` are arguments of Python that stand before the program.
    """
    script = PROGRAMS / f"{program}.py"
    told = ["rehearse", "--card", card, *options, "--json", "--", python, *launcher, script, *arguments]
    done = command(*told, environment=environment)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr
