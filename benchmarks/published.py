"""Rehearsals against a real card: the runs that somebody else measured on a Tesla T4, byte by byte.

Needs an interpreter with the archive's versions: `make install-published`. Checkpoints are sparse files of zeros, for
bytes do not depend on what weights say.
"""

import argparse
import csv
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from footprint.errors import FootprintError, user_errors
from footprint.rehearsal.launch import environment, rehearse
from footprint.spec.cards import find

HERE = Path(__file__).parent
ROWS = HERE / "published" / "t4.csv"
HARNESS = HERE / "peers" / "t4_harness.py"
SIZES = ("allocated", "forward", "backward", "step", "reserved")
COLUMNS = (*(f"{name}_peak_mib" for name in SIZES), "resident_mib")

SKELETON = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(sys.argv[1]))
tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
print(json.dumps({name: list(t.shape) for name, t in model.state_dict().items() if name not in tied}))
"""


def main(arguments: argparse.Namespace) -> None:
    python = arguments.python
    if not python.exists():
        raise FootprintError(f"python: {python} does not exist; run make install-published, or name another")
    with ROWS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if arguments.quant in ("all", row["quant"])]
    with TemporaryDirectory(prefix="footprint-published-") as scratch:
        compared = pd.DataFrame(list(_compared(rows, python, Path(scratch))))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    compared.to_csv(arguments.output, index=False)
    for quant, group in compared.groupby("quant"):
        errors = (group["allocated_peak_mib_rehearsed"] / group["allocated_peak_mib"] - 1).abs()
        exact = {column: int((group[column] == group[f"{column}_rehearsed"]).sum()) for column in COLUMNS}
        print(f"{quant}: of {len(group)} runs exact to the byte:")
        print("  " + ", ".join(f"{column.removesuffix('_mib').replace('_', ' ')} {n}" for column, n in exact.items()))
        print(f"  allocated off by {errors.mean():.4%} on average, {errors.max():.4%} at worst -> {arguments.output}")


def _compared(rows: list[dict], python: Path, scratch: Path) -> Iterator[dict]:
    card = find("t4")
    os.environ |= {"HF_DEACTIVATE_ASYNC_LOAD": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    told = os.environ | environment(card, str(python))
    known: dict[tuple, dict] = {}
    for number, row in enumerate(rows, start=1):
        name = row["model"].split("/")[1]
        run = (name, row["quant"], row["kernel"], row["rank"], row["batch"], row["seq"])
        if run not in known:
            folder = _checkpoint(name, python, scratch, told)
            found = scratch / "found.json"
            # Whether a mask is built depends on values of integers, which only a rehearsal that is watched carries out.
            done = rehearse(card, [*map(str, (python, HARNESS, found, folder)), *run[1:]], steps=None, quiet=True)
            if done.status:
                raise FootprintError(f"{row['run_id']}: could not be rehearsed; exit status {done.status}")
            known[run] = json.loads(found.read_text())
        if sys.stderr.isatty():
            print(f"\r{number}/{len(rows)} runs ", end="", file=sys.stderr, flush=True)
        measured = {column: float(row[column]) for column in COLUMNS}
        rehearsed = {f"{column}_rehearsed": known[run][column] for column in COLUMNS}
        yield dict(zip(("model", "quant", "kernel", "rank", "batch", "seq"), run, strict=True)) | measured | rehearsed


def _checkpoint(name: str, python: Path, scratch: Path, told: dict[str, str]) -> Path:
    """A folder with the model's config and a sparse safetensors file of bf16 zeros."""
    folder = scratch / name
    if folder.exists():
        return folder
    folder.mkdir()
    shutil.copyfile(HERE / "published" / "models" / f"{name}.json", folder / "config.json")
    asked = subprocess.run([python, "-c", SKELETON, folder], env=told, capture_output=True, text=True, check=True)
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for tensor, shape in json.loads(asked.stdout.splitlines()[-1]).items():
        begin, end = end, end + 2 * int(pd.Series(shape, dtype="int64").prod())
        header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    default = HERE.parent / ".venv-published" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=default, help="interpreter with the archive's versions")
    parser.add_argument("--quant", choices=("none", "nf4", "all"), default="all", help="which runs")
    parser.add_argument("--output", type=Path, default=HERE.parent / "results" / "bench" / "published.csv")
    with user_errors():
        main(parser.parse_args())
