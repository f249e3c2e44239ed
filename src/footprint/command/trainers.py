"""What the command line prints of runs under Transformers' Trainer, which are rehearsed."""

from collections.abc import Mapping, Sequence

from footprint.command.readout import HONEST, aligned, failure, in_a_line, parts, shape
from footprint.jobs.trainers import Rehearsed
from footprint.spec.cards import Card
from footprint.spec.columns import BUCKET_BYTES, PHASE_PEAKS
from footprint.spec.recipe import half_weights, under_autocast
from footprint.spec.run import RunSpec
from footprint.spec.units import format_bytes


def trainer(run: RunSpec, found: Rehearsed, needed: Rehearsed, card: Card) -> str:
    """What a run under Transformers' Trainer takes of a card; `needed` is the same where it fits."""
    said, row = [in_a_line(run), _recipe(run), HONEST, ""], needed.row
    if not found.fits:
        said += [f"It does not fit. {failure(found.row)} What follows is rehearsed on a card without end.", ""]
    if not needed.fits:
        return "\n".join(said)
    totals = {"allocated": row["peak_bytes"], "requested": row["requested_peak_bytes"]}
    totals |= {"reserved": row["reserved_peak_bytes"], "on the card": row["process_peak_bytes"]}
    sizes = [[name, format_bytes(size), f"{size:,} bytes"] for name, size in totals.items() if size is not None]
    said += ["Peaks", *aligned(sizes), ""]
    said += ["Highest point of each phase (allocated)", *aligned(parts(PHASE_PEAKS, row)), ""]
    said += ["At the peak", *aligned(parts(BUCKET_BYTES, row)), ""]
    largest = [[format_bytes(size), kind.replace("_", " "), name] for kind, name, size in needed.live[:LARGEST]]
    said += ["Largest tensors at the peak, by shape", *aligned(largest), ""]
    spare = card.total - row["process_peak_bytes"]
    fits = f"It fits on this card, with {format_bytes(spare)} to spare."
    return "\n".join([*said, fits if found.fits else f"{format_bytes(-spare)} more than this card has would do."])


LARGEST = 10
"""Tensors that are shown."""


def largest(found: Sequence[tuple[RunSpec, Mapping]], card: Card) -> str:
    """What fits of each setting under Transformers' Trainer, by rehearsals."""
    run = found[0][0]
    lines = [f"{run.model.name} on {card.name} ({format_bytes(card.total)})", _recipe(run), HONEST, ""]
    several = any(run.gpus > 1 for run, _ in found)
    header = ["regime", "checkpointing", "rank", "targets", *(["GPUs", "sharding"] if several else [])]
    rows = [[*header, "longest", "peak", "on the card", "to spare"]]
    for run, row in found:
        axes = [run.regime, run.checkpointing, str(run.rank or "-"), "-" if run.targets == "none" else run.targets]
        axes += [str(run.gpus), run.sharding] if several else []
        if row["status"] == "ok":
            spare = format_bytes(card.total - row["process_peak_bytes"])
            used = format_bytes(row["process_peak_bytes"])
            rows.append([*axes, shape(run), format_bytes(row["peak_bytes"]), used, spare])
        else:
            rows.append([*axes, f"not even {shape(run)}", "", "", ""])
    return "\n".join([*lines, *aligned(rows)])


def _recipe(run: RunSpec) -> str:
    """The settings of Trainer that matter to memory, in one line."""
    recipe = run.recipe
    halves = half_weights(run.regime, run.precision)
    autocast = under_autocast(recipe, run.precision)
    computes = f"autocast to {recipe.half}" if autocast else recipe.half if halves else "fp32"
    said = [f"by Transformers' Trainer in {computes}"]
    said += [f"dropout {recipe.dropout:g}"] if run.regime != "full" else []
    said += ["prepared for k-bit training"] if run.regime == "qlora" and recipe.prepared else []
    said += [f"{recipe.attention} attention", f"{recipe.batches} batches"]
    said += [f"{recipe.accumulation} batches a step"] if recipe.accumulation > 1 else []
    return ", ".join([*said, f"gradients clipped to {recipe.clipping:g}" if recipe.clipping else "no clipping"])
