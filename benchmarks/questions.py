"""Questions that people asked about memory, rehearsed in their own setting: config/questions.yaml, docs/questions.md.

python benchmarks/questions.py [--output results/reference/questions/questions.csv] [--page docs/questions.md]
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import yaml

from footprint.spec.units import format_bytes
from footprint.tables.rows import write_table

QUESTIONS = Path("config/questions.yaml")
OUTPUT = Path("results/bench/questions.csv")
UNITS = {"B": 1, "MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
HEADER = "| run | reported | allocated | reserved | on the card | rehearsed / reported |"
PROGRAM = "from footprint.command.main import main; raise SystemExit(main())"


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


def rehearse(question: dict, run: dict, folder: Path) -> dict[str, object]:
    """The row of one run, from the command line."""
    told = [sys.executable, "-c", PROGRAM, "rehearse", "--json", "--hf-config", str(folder), *options_of(question, run)]
    began = time.perf_counter()
    done = subprocess.run(told, capture_output=True, text=True)
    if done.returncode > 1:
        raise RuntimeError(done.stderr[-2000:])
    row, seconds = json.loads(done.stdout), time.perf_counter() - began
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
        lines += [
            "| run | reported | allocated | reserved | on the card | to the report |",
            "|---|---|---|---|---|---|",
        ]
        for run, row in zip(question["runs"], rows.to_dict("records"), strict=True):
            sizes = [_size(row[name]) for name in ("peak_bytes", "reserved_peak_bytes", "process_peak_bytes")]
            lines.append(f"| {run['name']} | {run.get('reported', '')} | {' | '.join(sizes)} | {_beside(row)} |")
        lines += ["", " ".join(question["cause"].split()), "", f"Unknown: {' '.join(question['unknown'].split())}", ""]
        command = " ".join(options_of(question, question["runs"][0]))
        lines += ["```sh", f"footprint rehearse --hf-config {question['model']}.json {command}", "```", ""]
    return "\n".join(lines)


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--page", type=Path, help="write docs/questions.md anew")
    arguments = parser.parse_args()
    told = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))
    rows = []
    with TemporaryDirectory() as scratch:
        for question in told["questions"]:
            path = Path(scratch) / f"{question['model']}.json"
            path.write_text(json.dumps(told["models"][question["model"]]), encoding="utf-8")
            for run in question["runs"]:
                rows.append(rehearse(question, run, path))
                row = rows[-1]
                print(f"{row['question']}, {row['run']}: {_size(row['process_peak_bytes'])} {_beside(row)}", flush=True)
    frame = pd.DataFrame(rows)
    write_table(arguments.output, frame)
    if arguments.page is not None:
        arguments.page.write_text(page(told["questions"], frame), encoding="utf-8")
    print(f"{len(rows)} runs in {frame['seconds'].sum():.0f} s -> {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
