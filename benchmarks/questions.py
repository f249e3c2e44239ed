"""Questions that people asked about memory, rehearsed in their own setting: config/questions.yaml, docs/questions.md.

python benchmarks/questions.py [--output results/reference/questions/questions.csv] [--page docs/questions.md]
"""

import sys
import time
from pathlib import Path

import pandas as pd
import yaml
from shared.command_line import finish, options
from shared.markdown import table_lines
from shared.rehearsed import config_files, rehearse

from footprint.spec.units import format_bytes

QUESTIONS = Path("config/questions.yaml")
OUTPUT = Path("results/bench/questions.csv")
UNITS = {"B": 1, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


def asked() -> dict:
    """What `config/questions.yaml` holds: `models` and `questions`."""
    return yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))


def options_of(question: dict, run: dict) -> list[str]:
    """What is written behind `footprint rehearse --hf-config config.json` for a run."""
    told = question["common"] | run["options"]
    return ["--card", question["card"], *(part for name, value in told.items() for part in (f"--{name}", _word(value)))]


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def reported_bytes(text: str | None) -> int | None:
    """`10 GB` as a number of bytes."""
    if text is None:
        return None
    number, unit = text.split()
    return round(float(number) * UNITS[unit])


def answered(question: dict, run: dict, config: Path) -> dict[str, object]:
    """The row of one run, from the command line."""
    began = time.perf_counter()
    row = rehearse("--hf-config", str(config), *options_of(question, run))
    seconds = time.perf_counter() - began
    names = ("peak_bytes", "reserved_peak_bytes", "process_peak_bytes")
    return {
        "question": question["title"],
        "run": run["name"],
        "reported_bytes": reported_bytes(run.get("reported")),
        "status": row["status"],
        **{name: row[name] for name in names},
        "seconds": round(seconds, 1),
    }


def page(questions: list[dict], frame: pd.DataFrame) -> str:
    """docs/questions.md from the table."""
    lines = [
        "# Questions people ask",
        "",
        "Reports found in public. Each is rehearsed in its reporter's setting, as far as that is known, by",
        "Transformers 5.23 and PyTorch 2.13 where reporters had older ones. *Reported* is in the reporter's unit. The",
        "last column compares it with the nearest of the three, which favours us: few reports say which they read.",
        "The models' sizes stand in the YAML file; saved as a config.json, each command can be tried.",
        "`benchmarks/questions.py` makes this page from `config/questions.yaml`; nothing is adjusted to fit.",
        "",
    ]
    for question in questions:
        rows = frame[frame["question"] == question["title"]]
        lines += [f"## {question['title']}", "", f"<{question['source']}>, on {question['card']}.", ""]
        cells = [_cells(run, row) for run, row in zip(question["runs"], rows.to_dict("records"), strict=True)]
        lines += table_lines(pd.DataFrame(cells), words=cells[0])
        lines += ["", " ".join(question["cause"].split()), "", f"Unknown: {' '.join(question['unknown'].split())}", ""]
        command = " ".join(options_of(question, question["runs"][0]))
        lines += ["```sh", f"footprint rehearse --hf-config {question['model']}.json {command}", "```", ""]
    return "\n".join(lines)


def _cells(run: dict, row: dict) -> dict[str, str]:
    sizes = {"allocated": "peak_bytes", "reserved": "reserved_peak_bytes", "on the card": "process_peak_bytes"}
    shown = {"run": run["name"], "reported": run.get("reported", "")}
    return shown | {name: _size(row[column]) for name, column in sizes.items()} | {"to the report": _beside(row)}


def _size(size: float) -> str:
    return "out of memory" if pd.isna(size) else format_bytes(int(size))


def _beside(row: dict) -> str:
    """The nearest of the three to what was reported, since few reports say which they read."""
    if pd.isna(row["reported_bytes"]) or pd.isna(row["process_peak_bytes"]):
        return ""
    found = {"allocated": row["peak_bytes"], "reserved": row["reserved_peak_bytes"], "card": row["process_peak_bytes"]}
    found = {name: size / row["reported_bytes"] - 1 for name, size in found.items() if not pd.isna(size)}
    name = min(found, key=lambda name: abs(found[name]))
    return f"{found[name]:+.1%} ({name})"


def main() -> int:
    """Rehearse every run, write the table and, if asked, the page."""
    arguments = options(__doc__, OUTPUT, page="docs/questions.md").parse_args()
    told, rows = asked(), []
    with config_files(told["models"]) as configs:
        for question in told["questions"]:
            for run in question["runs"]:
                row = answered(question, run, configs[question["model"]])
                rows.append(row)
                print(f"{row['question']}, {row['run']}: {_size(row['process_peak_bytes'])} {_beside(row)}", flush=True)
    frame = pd.DataFrame(rows)
    if arguments.page is not None:
        arguments.page.write_text(page(told["questions"], frame), encoding="utf-8")
    return finish(arguments.output, f"{len(rows)} runs in {frame['seconds'].sum():.0f} s", frame)


if __name__ == "__main__":
    sys.exit(main())
