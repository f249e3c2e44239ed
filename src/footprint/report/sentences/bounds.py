"""The limitations of the page: what does not follow from these runs, a sentence each."""

import pandas as pd

from footprint.report.page.words import counted, listing
from footprint.report.reading import times
from footprint.report.reading.selection import NAMED_AXES, in_common, measured
from footprint.report.reading.study import Study


def limitations(runs: pd.DataFrame, study: Study | None, *, on_a_gpu: bool) -> list[str]:
    """What a reader must not conclude, each from the rows there are."""
    found = [_models(runs), _hardware(runs, on_a_gpu=on_a_gpu), _trainers(), _times(runs)]
    return found + ([_quality(study)] if study is not None else [])


def _models(runs: pd.DataFrame) -> str:
    models = listing(dict.fromkeys(runs["model"]))
    common = in_common(runs, [axis for axis in NAMED_AXES if axis != "model"])
    common = f" ({common})" if common else ""
    return (
        f"Models: the runs are of {models}{common}. What the page says of LLaMA models follows from the "
        "same program, and was not measured."
    )


def _hardware(runs: pd.DataFrame, *, on_a_gpu: bool) -> str:
    if on_a_gpu:
        return "Hardware: some of these runs were measured on a GPU; every other card is predicted or rehearsed."
    return (
        "Hardware: no GPU has measured anything here. Predictions for cards were held against rehearsals of random "
        "runs on a T4, an A100 and an H100, and were exact to the byte; a rehearsal is PyTorch's own allocator and "
        "kernels' requests over a stand-in, not a card. A real card has checked rehearsals once: other people's "
        "runs on a T4 (docs/rehearsal.md)."
    )


def _trainers() -> str:
    return (
        "Trainers: these runs, and what is predicted of cards, are of this project's own training loop; another "
        "trainer may keep more."
    )


def _times(runs: pd.DataFrame) -> str:
    done = measured(runs)
    if not done["step_seconds"].notna().any():
        return "Times: a rehearsal has none."
    disturbed = sum(times.disturbance(run) is not None for _, run in done.iterrows())
    if not times.recorded(done):
        known = (
            "how steady the steps were and what else used the machine was not recorded, so that only contradictions "
            "between runs can show a disturbance"
        )
    elif disturbed:
        known = f"those of {counted(disturbed, 'run')} of {len(done)} were disturbed and are withheld"
    else:
        known = f"no single one of {counted(len(done), 'run')} was disturbed, by the test under Method"
    return f"Times: they are of this machine, and say nothing about a GPU; {known}."


def _quality(study: Study) -> str:
    done = study.finished
    if not len(done):
        return "Loss: no fine-tuning of the study finished."
    models = listing(dict.fromkeys(done["model"]))
    seeds = int(done["finished"].max())
    return (
        f"Loss: the study is of {models}, {int(done['steps'].max()):,} steps, at most {counted(seeds, 'seed')} a "
        "setting, one text and one learning rate per regime; a larger model, more steps or other rates may change "
        "the order."
    )
