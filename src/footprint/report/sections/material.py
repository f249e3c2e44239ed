"""What every section of the page is made from, loaded once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import pandas as pd

from footprint.report.page.elements import Page
from footprint.report.reading import selection, several_gpus, study
from footprint.report.reading.several_gpus import Sharded
from footprint.report.reading.study import Study
from footprint.report.tables import devices
from footprint.spec.recipe import STACKS

REHEARSED = (
    "Rehearsed, not measured: PyTorch ran the steps over a stand-in for the card, which counts every byte and computes "
    "nothing."
)
PREDICTED = "Predicted, not measured: computed from shapes alone, for an NVIDIA GPU."
"""What stands at the head of a section whose figures were not measured."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """The tables of one experiment on one device, and the page that they are shown on."""

    page: Page
    renderer: str
    """`quarto` or `nbconvert`."""
    directory: Path
    """The folder of the tables."""
    experiment: str
    device: str
    runs: pd.DataFrame
    """Those of this project's own loop, which are predicted too."""
    under_transformers: pd.DataFrame
    """Those under Transformers' Trainer."""
    quality: Study | None
    """The quality study, if the experiment has one."""
    reference: Path | None
    """A folder of results from other devices and of benchmarks."""
    several_gpus: Sharded | None
    """Rehearsals over several cards, if the reference folder has them."""
    beside: dict[str, pd.DataFrame]
    """Runs of the same settings on other devices, by the name of the device's folder."""
    unfinished: list[str]
    """Why results of this experiment on other devices are left out, a sentence each."""

    @property
    def finished(self) -> pd.DataFrame:
        """The runs that have a peak."""
        return selection.measured(self.runs)

    @property
    def origin(self) -> str | None:
        """What the head of a section about these runs must say of them; None where they were measured."""
        return None if selection.source(self.runs) == "measured" else REHEARSED

    @property
    def every(self) -> pd.DataFrame:
        """The runs of both stacks."""
        return pd.concat(filter(len, (self.runs, self.under_transformers)), ignore_index=True)

    @property
    def on_a_gpu(self) -> bool:
        """Whether a GPU has measured any run that is shown."""
        return devices.measured_on_a_gpu([self.runs, *self.beside.values()])


def load(directory: str, *, experiment: str, device: str, renderer: str, reference: str) -> Material:
    """What the notebook's parameters name; `reference` is a folder of results from other devices, or empty."""
    folder = Path(directory)
    runs, under_transformers = (selection.load(folder, stack) for stack in STACKS)
    kept = Path(reference) if reference else None
    beside, unfinished = devices.others(kept, folder, runs)
    return Material(
        page=Page(renderer, Path("references.bib")),
        renderer=renderer,
        directory=folder,
        experiment=experiment,
        device=device,
        runs=runs,
        under_transformers=under_transformers,
        quality=study.load(folder),
        reference=kept,
        several_gpus=several_gpus.load(kept),
        beside=beside,
        unfinished=unfinished,
    )


Section = Callable[[Material], None]


def unless_empty(section: Section) -> Section:
    """A section that says in one sentence what it cannot show for want of runs."""

    @wraps(section)
    def shown(report: Material) -> None:
        with report.page.unless_empty():
            section(report)

    return shown


def of_minigpt(section: Section) -> Section:
    """A section that is left out where the experiment has no run of this project's own loop."""

    @wraps(section)
    def shown(report: Material) -> None:
        if len(report.runs):
            section(report)

    return shown


def of_study(section: Section) -> Section:
    """A section that is left out where the experiment has no quality study."""

    @wraps(section)
    def shown(report: Material) -> None:
        if report.quality is not None:
            section(report)

    return shown
