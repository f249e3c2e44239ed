"""A command carried out as if on a card: its environment, its end, and what every process of it reports."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from footprint.errors import FootprintError
from footprint.files import replacing
from footprint.rehearsal.build import PRELOADED, Installed, installed, stand_in, untried
from footprint.spec.cards import DESCRIBED, Card

INSIDE = Path(__file__).with_name("inside")
"""What Python imports in every process of a rehearsal."""

PROGRAMS = Path(__file__).with_name("bin")
"""What stands before all other programs on PATH: nvidia-smi."""

RAN, OUT_OF_MEMORY, IMPOSSIBLE = 0, 1, 2
"""Exit statuses of a rehearsal; any other is the program's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """How a command ended, and what its processes report."""

    card: Card
    command: tuple[str, ...]
    returned: int
    """Exit status of the command; minus a signal's number where one killed it."""
    refusal: str | None
    """Why the stand-in could not go on, in one sentence."""
    remark: str | None
    """What limits the answer, in one sentence."""
    processes: tuple[dict, ...]
    """The report of each process that used the card, that with the highest peak first (see `inside`)."""
    gpus: int | None = None
    """How many such cards the program was told of, one for each rank; None where nothing was said of ranks."""
    rank: int = 0
    """The rank that was rehearsed."""

    @property
    def failed(self) -> bool:
        """Whether the program ended because memory ran out; one that went on is no failure."""
        return self.returned != 0 and any(process["failures"] for process in self.processes)

    @property
    def status(self) -> int:
        """The exit status of the whole rehearsal."""
        if self.refusal is not None:
            return IMPOSSIBLE
        if self.failed:
            return OUT_OF_MEMORY
        return self.returned if self.returned >= 0 else 128 - self.returned


def rehearse(
    card: Card,
    command: Sequence[str],
    *,
    steps: int | None,
    gpus: int | None = None,
    rank: int = 0,
    quiet: bool = False,
    timeline: Path | None = None,
    snapshot: Path | None = None,
) -> Rehearsal:
    """Carry out `command` as if its machine had `card`, or `gpus` of them and this were one `rank` of as many.

    `steps` ends the program after as many optimizer steps; None lets it run to its end. `quiet` sends to stderr what
    the program prints. `timeline` and `snapshot` are files to write for the process with the highest peak: live bytes
    of each bucket after every allocation and release (CSV), and what PyTorch's memory viewer opens.

    Raises FootprintError where there is no such program, no CUDA build of PyTorch, or no compiler.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FootprintError(f"command: {command[0]!r} was not found; use a program, for example python train.py")
    python = interpreter(program)
    on_card = environment(card, python, gpus or 1)
    with TemporaryDirectory(prefix="footprint-rehearsal-") as scratch:
        wanted = {"csv": timeline, "pickle": snapshot}
        files = {name: path is not None for name, path in (("timeline", timeline), ("snapshot", snapshot))}
        settings = {"report": scratch, "steps": steps, "gpus": gpus, "rank": rank, **files}
        told = os.environ | on_card | (_as_rank(rank, gpus) if gpus else {}) | _watched(settings)
        done = subprocess.run([program, *command[1:]], env=told, stdout=sys.stderr if quiet else None)
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(scratch).glob("*.json"))]
        reports.sort(key=lambda report: -peak(report, "reserved"))
        for kind, path in wanted.items():
            if path is not None and reports:
                with replacing(path) as file, (Path(scratch) / f"{reports[0]['process']}.{kind}").open("rb") as written:
                    shutil.copyfileobj(written, file)
        refused = Path(scratch) / "refusal"
        refusal = refused.read_text(encoding="utf-8").strip() if refused.exists() else None
    return Rehearsal(
        card=card,
        command=tuple(command),
        returned=done.returncode,
        refusal=refusal,
        remark=untried(installed(python)),
        processes=tuple(reports),
        gpus=gpus,
        rank=rank,
    )


def real_values() -> AbstractContextManager:
    """The mode in which small integers are real on a card, for a process of this package that is on one."""
    if str(INSIDE) not in sys.path:
        sys.path.append(str(INSIDE))  # its modules know one another as they do in a program's process
    from footprint_inside.real_values import RealValues

    return RealValues()


def peak(report: dict, what: str) -> int:
    """Bytes of the highest `allocated`, `requested` or `reserved` over all phases of a process."""
    return max((phase[f"{what}_bytes"] for phase in report["phases"].values()), default=0)


def interpreter(program: str) -> str:
    """The Python that a program runs with: itself, that of its first line, or else the one that is found first."""
    if Path(program).name.startswith("python"):
        return program
    with Path(program).open("rb") as file:
        first = file.readline(300).decode(errors="replace")
    words = first.removeprefix("#!").split() if first.startswith("#!") else []
    found = next((word for word in words if Path(word).name.startswith("python")), None)
    return found or shutil.which("python") or shutil.which("python3") or sys.executable


def environment(card: Card, python: str, devices: int = 1) -> dict[str, str]:
    """What a process needs in its environment to find `devices` such cards; `python` is the interpreter that will run.

    Nothing watches it. Raises FootprintError as `stand_in` does, and where that PyTorch has no kernels for the card.
    """
    require_kernels(card, installed(python))
    folder = stand_in(python)
    return {
        "LD_PRELOAD": _first("LD_PRELOAD", folder / PRELOADED),
        "LD_LIBRARY_PATH": _first("LD_LIBRARY_PATH", folder),
        "PATH": _first("PATH", PROGRAMS),
        DESCRIBED: card.described(devices),
        # cuDNN's attention comes first on Hopper; only cuDNN knows its workspace, so flash attention takes its place.
        "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",
    }


OLDEST = {"12": (5, 0), "13": (7, 5)}
"""The oldest generation that PyTorch's wheels have kernels for, by CUDA's major version."""


def require_kernels(card: Card, found: Installed) -> None:
    """Raise FootprintError where a PyTorch has no kernels for a card: there too it would run none."""
    if card.generation < OLDEST.get(found.cuda.split(".")[0], (0, 0)):
        raise FootprintError(
            f"card: {card.key} has compute capability {card.capability}, for which PyTorch {found.version} with CUDA "
            f"{found.cuda} has no kernels; use a build of PyTorch for CUDA 12"
        )


def _watched(settings: dict[str, object]) -> dict[str, str]:
    """What makes every Python process of a rehearsal report to a folder (see `SETTINGS` in `inside`)."""
    return {
        "PYTHONPATH": _first("PYTHONPATH", INSIDE),
        "FOOTPRINT_REHEARSAL": json.dumps(settings),
        "FOOTPRINT_REFUSAL": str(Path(str(settings["report"])) / "refusal"),
    }


def _as_rank(rank: int, ranks: int) -> dict[str, str]:
    """What launchers tell a process of its rank, on one machine; nobody listens at the address."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    told = {name: str(number) for name, number in own.items()}
    return told | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def _first(name: str, path: Path) -> str:
    """A variable that lists paths, with this one before those that are there."""
    return os.pathsep.join(filter(None, [str(path), os.environ.get(name)]))


def ended(rehearsal: Rehearsal) -> str:
    """How the command ended, in a few words."""
    if rehearsal.failed:
        return "it ran out of memory"
    if rehearsal.returned < 0:
        return f"it was killed by {signal.Signals(-rehearsal.returned).name}"
    if rehearsal.returned:
        return f"it ended with exit status {rehearsal.returned}"
    return rehearsal.processes[0]["ended"] if rehearsal.processes else "the program ended"
