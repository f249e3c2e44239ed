"""A process on a card that is not here: the same program again, with another interpreter and a card's environment."""

import os
import re
import sys
from collections.abc import Mapping

from footprint.errors import FootprintError
from footprint.jobs.runtime import VISIBLE
from footprint.measure.provenance import REPOSITORY
from footprint.rehearsal.build import is_cuda_build, stand_in
from footprint.rehearsal.launch import environment
from footprint.spec.cards import DESCRIBED, Card, find

CHOSEN = "FOOTPRINT_REHEARSAL_PYTHON"
"""Environment variable that names an interpreter whose PyTorch is a CUDA build."""

INSTALLED = REPOSITORY / ".venv-rehearsal" / "bin" / "python"
"""What `make install-rehearsal` makes."""

MOST = 64
"""Cards of one machine: as many rehearsals may run side by side."""


def enter(card: Card) -> None:
    """Start this program anew as if its machine had `card`, unless it was started so; then return.

    Raises FootprintError where no interpreter here has a CUDA build of PyTorch, and as `rehearsal.build.stand_in` does.
    """
    python = interpreter()
    on_card = environment(card, python, devices=MOST) | {VISIBLE: visible(os.environ)}
    if os.environ.get(DESCRIBED) == on_card[DESCRIBED]:
        return
    os.execve(python, [python, *sys.orig_argv[1:]], os.environ | on_card)


def require_rehearsals(card: str) -> None:
    """Raise FootprintError where no run can be rehearsed on `card`; build the stand-in if it is not there."""
    find(card)
    stand_in(interpreter())


def interpreter() -> str:
    """The Python that rehearses: the one that was chosen, else this one, else what `make install-rehearsal` made."""
    chosen = os.environ.get(CHOSEN)
    if chosen:
        return chosen
    if is_cuda_build(sys.executable):
        return sys.executable
    if INSTALLED.exists():
        return str(INSTALLED)
    raise FootprintError(
        "card: a rehearsal needs a CUDA build of PyTorch, and there is none here; run `make install-rehearsal`, or let "
        f"{CHOSEN} name an interpreter that has one"
    )


def visible(environment: Mapping[str, str]) -> str:
    """The pretended cards to choose from: those that CUDA_VISIBLE_DEVICES numbers, else one for each core."""
    told = environment.get(VISIBLE, "")
    if re.fullmatch(r"\d+(,\d+)*", told) and all(int(number) < MOST for number in told.split(",")):
        return told
    return ",".join(str(number) for number in range(min(MOST, len(os.sched_getaffinity(0)))))
