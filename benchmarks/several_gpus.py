"""How many cards hold the fine-tuning of 7B, 13B and 70B: config/several-gpus.yaml, docs/several-gpus.md.

python benchmarks/several_gpus.py [--output results/reference/sharded/sharded.csv] [--page docs/several-gpus.md]
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import yaml
from matplotlib.figure import Figure

from footprint.jobs.pretended import interpreter
from footprint.predict.parameters import parameter_count
from footprint.spec.cards import find
from footprint.spec.published import read_shape
from footprint.spec.units import format_bytes
from footprint.tables.rows import write_table

ASKED = Path("config/several-gpus.yaml")
OUTPUT = Path("results/bench/sharded.csv")
PROGRAM = Path(__file__).parent / "peers" / "sharded.py"
COMMAND = "from footprint.command.main import main; raise SystemExit(main())"
ROOM = "8TiB"
"""Memory of a card on which everything fits, to see the peak of what does not."""

TEXTBOOK = 16
"""Bytes of a parameter in full fine-tuning with AdamW: weights, gradients and two moments in fp32."""

GiB = 2**30

INTRODUCTION = """# How many GPUs

"Training 7B+ models takes multi-GPU setups (4-8 A100s typical for full FT)", says the text that this project started
from. Here Llama shapes are rehearsed under FSDP2, with one sequence of {tokens:,} tokens on each card and computation
in bf16. In full, weights, gradients and moments lie in fp32 shards. Under lora the frozen weights are bf16. Under
qlora those of the Linears are NF4 with double quantization, whose scales every rank holds whole. Adapters have rank
16 on every Linear of the blocks. Tried are 1, 2, 4, 8 and 16 cards; one card is FSDP2 over a single rank.

Nothing here was compared with real cards. What NCCL takes outside PyTorch's allocator is not counted, so a run that
barely fits may not. `benchmarks/several_gpus.py` makes this page from `config/several-gpus.yaml` and
`results/reference/sharded/sharded.csv`.
"""

CACHE = """Where what is allocated fits a card and what is reserved with room to spare does not, the card itself was
rehearsed. The allocator then empties its cache for want of memory, which takes time on a real card."""

ABOVE = """16 N / cards is the textbook's weights, gradients and moments. Above it lie the gathered weights of a
block or two and of embedding and head, gradients before they are scattered, and activations. They do not shrink with
the number of cards."""


def rehearsed(card: str, gpus: int, *program: str, memory: str | None = None) -> dict:
    """The answer of `footprint rehearse` for rank 0."""
    room = [] if memory is None else ["--gpu-memory", memory]
    told = ["rehearse", "--card", card, *room, "--gpus", str(gpus), "--steps", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *told, "--", interpreter(), str(PROGRAM), *program],
        capture_output=True,
        text=True,
    )
    if done.returncode > 1 or not done.stdout or json.loads(done.stdout)["status"] not in ("ok", "oom"):
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def fits(card: str, answer: dict, gpus: int, *program: str) -> bool:
    """Whether a run fits a card, from its peaks with room to spare, or rehearsed there where those leave it open.

    What never fills a card runs there as it does with more room. What allocates more than there is cannot run.
    """
    room = find(card).total - find(card).context
    if answer["peak_reserved_bytes"] <= room or answer["peak_allocated_bytes"] > room:
        return answer["peak_reserved_bytes"] <= room
    return rehearsed(card, gpus, *program)["status"] == "ok"


def rows(asked: dict, folder: Path) -> Iterator[dict[str, object]]:
    """A row for each number of cards, up to the first that every card holds; in full to the last, for the figure."""
    settings = product(asked["models"].items(), asked["regimes"], asked["checkpointing"])
    for (model, config), regime, checkpointing in settings:
        path = folder / f"{model}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        program = (str(path), regime, checkpointing, str(asked["tokens"]))
        for gpus in asked["gpus"]:
            answer = rehearsed(asked["cards"][-1], gpus, *program, memory=ROOM)
            held = {f"fits_{card}": fits(card, answer, gpus, *program) for card in asked["cards"]}
            yield {
                "model": model,
                "parameters": parameter_count(read_shape(path)),
                "regime": regime,
                "checkpointing": checkpointing,
                "gpus": gpus,
                **{name: answer[name] for name in ("peak_allocated_bytes", "peak_reserved_bytes")},
                **held,
            }
            if regime != "full" and all(held.values()):
                break


def fewest(frame: pd.DataFrame, card: str) -> str:
    """The fewest cards of a kind that hold a setting, among those that were tried."""
    held = frame[frame[f"fits_{card}"]]
    return str(held["gpus"].min()) if len(held) else f"more than {frame['gpus'].max()}"


def missing(asked: dict, frame: pd.DataFrame) -> list[str]:
    """Settings that were asked for and are not in the table."""
    found = set(zip(frame["model"], frame["regime"], frame["checkpointing"], strict=True))
    wanted = product(asked["models"], asked["regimes"], asked["checkpointing"])
    return [", ".join(setting) for setting in wanted if setting not in found]


def claim(asked: dict, frame: pd.DataFrame) -> str:
    """What became of the text's 4 to 8 cards for 7B in full."""
    full = frame.query("model == 'llama-7b' and regime == 'full'")
    each = [
        f"with checkpointing {checkpointing}, {' or '.join(f'{fewest(rows, card)} {card}' for card in asked['cards'])}"
        for checkpointing, rows in full.groupby("checkpointing", sort=False)
    ]
    return f"For 7B in full, where the text says 4 to 8, the fewest are: {'; '.join(each)}."


def page(asked: dict, frame: pd.DataFrame) -> str:
    """docs/several-gpus.md from the table."""
    cards = asked["cards"]
    lines = [
        *INTRODUCTION.format(tokens=asked["tokens"]).splitlines(),
        "",
        "## The fewest cards",
        "",
        f"| model | regime | checkpointing | {' | '.join(cards)} |",
        f"|---|---|---|{'---:|' * len(cards)}",
    ]
    for (model, regime, checkpointing), rows in frame.groupby(["model", "regime", "checkpointing"], sort=False):
        lines.append(f"| {model} | {regime} | {checkpointing} | {' | '.join(fewest(rows, card) for card in cards)} |")
    lines += [
        "",
        claim(asked, frame),
        "",
        *CACHE.splitlines(),
        *(f"Not rehearsed to its end: {name}." for name in missing(asked, frame)),
        "",
        "## The peak on each card, in full",
        "",
        "![Peak allocated on each card over the number of cards, beside 16 bytes a parameter divided by the cards]"
        "(several-gpus.svg)",
        "",
        *ABOVE.splitlines(),
        "",
        "| model | checkpointing | cards | 16 N / cards | allocated | reserved |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in frame[frame["regime"] == "full"].to_dict("records"):
        sizes = (TEXTBOOK * row["parameters"] // row["gpus"], row["peak_allocated_bytes"], row["peak_reserved_bytes"])
        shown = " | ".join(map(format_bytes, sizes))
        lines.append(f"| {row['model']} | {row['checkpointing']} | {row['gpus']} | {shown} |")
    first = next(iter(asked["models"]))
    command = f"footprint rehearse --card {cards[-1]} --gpus 8 -- \\\n    torchrun --nproc-per-node 8 "
    command += f"benchmarks/peers/sharded.py {first}.json full block {asked['tokens']}"
    return "\n".join([*lines, "", "```sh", command, "```", ""])


def figure(frame: pd.DataFrame) -> Figure:
    """Peak allocated on each card in full fine-tuning over the number of cards, beside 16 N / cards."""
    full = frame[frame["regime"] == "full"]
    drawn = Figure(figsize=(9, 3.6), layout="constrained")
    models = full["model"].unique()
    for axes, model in zip(drawn.subplots(1, len(models)), models, strict=True):
        for checkpointing, rows in full[full["model"] == model].groupby("checkpointing", sort=False):
            axes.plot(rows["gpus"], rows["peak_allocated_bytes"] / GiB, "o-", label=f"checkpointing: {checkpointing}")
        axes.plot(rows["gpus"], TEXTBOOK * rows["parameters"] / rows["gpus"] / GiB, "k--", label="16 N / cards")
        axes.set(xscale="log", yscale="log", title=model, xlabel="cards")
        axes.set_xticks(rows["gpus"], rows["gpus"].astype(str))
        axes.minorticks_off()
        ticks = [
            tick for tick in (8, 16, 32, 64, 128, 256, 512, 1024) if axes.get_ylim()[0] < tick < axes.get_ylim()[1]
        ]
        axes.set_yticks(ticks, map(str, ticks))
    drawn.axes[0].set_ylabel("GiB allocated on each card")
    drawn.axes[0].legend(frameon=False, fontsize="small")
    return drawn


def main() -> int:
    """Rehearse every setting, write the table and, if asked, the page with its figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--page", type=Path, help="write docs/several-gpus.md and its figure anew")
    arguments = parser.parse_args()
    asked = yaml.safe_load(ASKED.read_text(encoding="utf-8"))
    found = []
    with TemporaryDirectory() as scratch:
        for row in rows(asked, Path(scratch)):
            found.append(row)
            print(*row.values(), flush=True)
    frame = pd.DataFrame(found)
    write_table(arguments.output, frame)
    if arguments.page is not None:
        arguments.page.write_text(page(asked, frame), encoding="utf-8")
        figure(frame).savefig(arguments.page.with_suffix(".svg"), metadata={"Date": None})
    least = fewest(frame[frame["regime"] == "full"].query("model == 'llama-7b'"), asked["cards"][-1])
    print(f"{len(frame)} rehearsals; 7B in full takes {least} cards of 80 GB at least -> {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
