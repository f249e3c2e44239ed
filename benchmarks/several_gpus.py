"""How many cards hold the fine-tuning of 7B, 13B and 70B: config/several-gpus.yaml, docs/several-gpus.md.

python benchmarks/several_gpus.py [--output results/reference/sharded/sharded.csv] [--page docs/several-gpus.md]
"""

import sys
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from textwrap import fill

import pandas as pd
from shared.command_line import finish, options
from shared.markdown import table_lines
from shared.rehearsed import config_files, rehearse

from footprint.jobs.pretended import interpreter
from footprint.predict.parameters import parameter_count
from footprint.report.figures.several_gpus import SHARE, peaks, share
from footprint.report.reading.several_gpus import Sharded, asked, room, sharded
from footprint.report.sentences import several_gpus as sentences
from footprint.report.tables.several_gpus import CAPTION, fewest_cards
from footprint.spec.published import read_shape
from footprint.spec.units import format_bytes

OUTPUT = Path("results/bench/sharded.csv")
PROGRAM = Path(__file__).parent / "peers" / "sharded.py"
ROOM = "8TiB"
"""Memory of a card on which everything fits, to see the peak of what does not."""

PAGE = """# How many GPUs

{lesson}

{setting}

{uncounted}

`benchmarks/several_gpus.py` makes this page from `config/several-gpus.yaml` and
`results/reference/sharded/sharded.csv`.

## The fewest cards

{fewest}

{caption}

## The peak on each card, in full

![{alt}](several-gpus.svg)

{above}

{peaks}

```sh
{command}
```
"""


def on_cards(card: str, gpus: int, *program: str, memory: str | None = None) -> dict:
    """What is said of rank 0."""
    more = [] if memory is None else ["--gpu-memory", memory]
    told = ("--card", card, *more, "--gpus", str(gpus), "--steps", "2")
    return rehearse(*told, "--", interpreter(), str(PROGRAM), *program)


def fits(card: str, answer: dict, gpus: int, *program: str) -> bool:
    """Whether a run fits a card, from its peaks with room to spare, or rehearsed there where those leave it open.

    What never fills a card runs there as it does with more room. What allocates more than there is cannot run.
    """
    if answer["peak_reserved_bytes"] <= room(card) or answer["peak_allocated_bytes"] > room(card):
        return answer["peak_reserved_bytes"] <= room(card)
    return on_cards(card, gpus, *program)["status"] == "ok"


def rows(told: dict, configs: Mapping[str, Path]) -> Iterator[dict[str, object]]:
    """A row for each number of cards, up to the first that every card holds; in full to the last, for the figure."""
    for model, regime, checkpointing in product(told["models"], told["regimes"], told["checkpointing"]):
        program = (str(configs[model]), regime, checkpointing, str(told["tokens"]))
        for gpus in told["gpus"]:
            answer = on_cards(told["cards"][-1], gpus, *program, memory=ROOM)
            held = {f"fits_{card}": fits(card, answer, gpus, *program) for card in told["cards"]}
            yield {
                "model": model,
                "parameters": parameter_count(read_shape(configs[model])),
                "regime": regime,
                "checkpointing": checkpointing,
                "gpus": gpus,
                **{name: answer[name] for name in ("peak_allocated_bytes", "peak_reserved_bytes")},
                **held,
            }
            if regime != "full" and all(held.values()):
                break


def page(found: Sharded) -> str:
    """docs/several-gpus.md from the table."""
    command = f"footprint rehearse --card {found.cards[-1]} --gpus 8 -- \\\n    torchrun --nproc-per-node 8 "
    command += f"benchmarks/peers/sharded.py {found.models[0]}.json full block {found.tokens}"
    prose = {
        "lesson": sentences.against_the_lesson(found),
        "setting": sentences.setting(found),
        "uncounted": sentences.UNCOUNTED,
        "caption": CAPTION.format(tokens=found.tokens),
        "above": sentences.ABOVE,
    }
    return PAGE.format(
        fewest="\n".join(table_lines(fewest_cards(found).shown, words=("Model", "Regime"))),
        alt=peaks(found).alt,
        peaks="\n".join(table_lines(peaks_in_full(found), words=("model", "checkpointing"))),
        command=command,
        **{name: fill(text, 118) for name, text in prose.items()},
    )


def peaks_in_full(found: Sharded) -> pd.DataFrame:
    """What the figure shows, in words, and what is reserved."""
    rows = [
        {"model": model, "checkpointing": mode, "cards": str(run["gpus"])}
        | {SHARE: format_bytes(share(run))}
        | {name: format_bytes(run[f"peak_{name}_bytes"]) for name in ("allocated", "reserved")}
        for model, mode in product(found.models, found.checkpointing)
        for _, run in found.of(model, "full", mode).iterrows()
    ]
    return pd.DataFrame(rows)


def main() -> int:
    """Rehearse every setting, write the table and, if asked, the page with its figure."""
    arguments = options(__doc__, OUTPUT, page="docs/several-gpus.md and its figure").parse_args()
    told, tried = asked(), []
    with config_files(told["models"]) as configs:
        for row in rows(told, configs):
            tried.append(row)
            print(*row.values(), flush=True)
    found = sharded(told, pd.DataFrame(tried))
    if arguments.page is not None:
        arguments.page.write_text(page(found), encoding="utf-8")
        peaks(found).save(arguments.page.with_suffix(".svg"))
    return finish(arguments.output, f"{len(tried)} rehearsals; {sentences.title(found)}", found.runs)


if __name__ == "__main__":
    sys.exit(main())
