"""Kill what measures at random moments, damage run files at random places, and count what is lost: `make soak`.

Each kill starts the smoke experiment from nothing, kills a run, the fork server, Snakemake or everything with SIGKILL,
starts Snakemake again until it is finished and compares every table with those of an undisturbed experiment.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from clone import REPOSITORY, TEXT, Clone

from footprint.errors import FootprintError
from footprint.experiment.yaml_file import load
from footprint.jobs.runtime import FOLDER
from footprint.spec.columns import MEASUREMENTS
from footprint.tables.rows import read_run

VICTIMS = ("run", "server", "snakemake", "everything")
VARYING = ("process_peak_bytes", "measured_at", "tokens_per_second", "neighbour_load")
"""Columns that differ from one experiment to the next, beside all that are seconds."""


@dataclass(frozen=True)
class Disturbed:
    """A clone whose fork server listens in a folder of its own, so that its processes can be told from others."""

    clone: Clone
    runtime: Path

    @classmethod
    def of(cls, clone: Clone) -> "Disturbed":
        """A clone with a new folder for its server."""
        return cls(clone, Path(tempfile.mkdtemp(prefix="soak-")))

    @property
    def printed(self) -> str:
        """What the latest Snakemake said."""
        return (self.runtime / "printed").read_text()

    def start(self, *arguments: str) -> subprocess.Popen:
        """Snakemake on the clone's experiment, going on where an earlier one was killed."""
        # pytest tells the name of the test in the environment, and another environment means another server.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        with (self.runtime / "printed").open("w") as printed:
            return subprocess.Popen(
                self.clone.command(*arguments, "--rerun-incomplete"),
                cwd=self.clone.root,
                env=ours | {FOLDER: str(self.runtime)},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self, victim: str, snakemake: subprocess.Popen) -> list[int]:
        """What of this clone runs now: Snakemake, the server or the runs forked from it."""
        if victim in ("snakemake", "everything"):
            return [snakemake.pid]
        forked = dict(self._forked())
        return [process for process, parent in forked.items() if (parent in forked) == (victim == "run")]

    def _forked(self) -> Iterator[tuple[int, int]]:
        """(process, its parent) of the server and its children."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
                if any(word.startswith(os.fsencode(self.runtime)) for word in words):
                    yield int(path.parent.name), int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it has just ended

    def kill(self, victim: str, ready: Callable[[], bool], *arguments: str) -> bool:
        """Start, kill the victim once it is `ready` and there; whether there was one before all was done."""
        snakemake = self.start(*arguments)
        killed = False
        while not killed and snakemake.poll() is None:
            for process in self.processes(victim, snakemake) if ready() else []:
                killed |= _killed(process, group=victim == "everything")
            time.sleep(0.01)
        snakemake.wait()
        return killed

    def finish(self, *arguments: str, starts: int = 3) -> list[str]:
        """Start again until all is done, unlocking where it says so; what every start printed."""
        said = []
        while len(said) < starts:
            ended = self.start(*arguments).wait(timeout=1800)
            said.append(self.printed)
            if ended == 0:
                return said
            if "--unlock" in said[-1]:
                self.clone.snakemake("--unlock")
        raise AssertionError(said[-1])


def _killed(process: int, *, group: bool) -> bool:
    try:
        (os.killpg if group else os.kill)(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def steady(path: Path) -> pd.DataFrame:
    """A table without what differs from one experiment to the next."""
    rows = pd.read_csv(path, keep_default_na=False)
    return rows[[name for name in rows.columns if name not in VARYING and not name.endswith("_seconds")]]


def lost(folder: Path, undisturbed: Path) -> list[str]:
    """What is wrong in the tables of `folder`: missing ones, and rows lost, doubled or changed, each in a sentence."""
    found = []
    for path in sorted(undisturbed.glob("*.csv")):
        if not (folder / path.name).exists():
            found.append(f"{path.name} is missing")
            continue
        ours, theirs = steady(folder / path.name), steady(path)
        if len(ours) != len(theirs):
            found.append(f"{path.name} has {len(ours)} rows, not {len(theirs)}")
        elif not ours.equals(theirs):
            names = [name for name in theirs if name not in ours or not ours[name].equals(theirs[name])]
            found.append(f"{path.name} differs in {', '.join(names)}")
    return found


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A file cut short, or with a byte changed, taken out, put in or repeated."""
    place = chance.randrange(len(content))
    kind = chance.choice(("cut", "change", "remove", "insert", "digit"))
    if kind == "cut":
        return content[:place]
    if kind == "digit":  # what a hand that edits a number does
        digits = [number for number, byte in enumerate(content) if chr(byte).isdigit()]
        place = chance.choice(digits)
        return content[:place] + str(chance.randrange(10)).encode() + content[place + 1 :]
    middle = {"change": bytes([chance.randrange(256)]), "remove": b"", "insert": bytes([chance.randrange(256)])}[kind]
    return content[:place] + middle + content[place + (kind != "insert") :]


def mistaken(path: Path, times: int, chance: random.Random) -> list[bytes]:
    """Damages of a run file, of `times` tried, after which it still reads, but as another row or other settings."""
    content, before = path.read_bytes(), read_run(path, MEASUREMENTS)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "run.json"
        for _ in range(times):
            copy.write_bytes(damaged(content, chance))
            try:
                if read_run(copy, MEASUREMENTS) != before:
                    found.append(copy.read_bytes())
            except FootprintError as refused:
                if "\n" in str(refused):
                    found.append(copy.read_bytes())
    return found


def smoke(root: Path) -> Clone:
    """A clone whose experiment is the smoke experiment on a text that needs no network."""
    clone = Clone.make(root)
    config = load(REPOSITORY / "config" / "config.yaml", REPOSITORY / "config" / "smoke.yaml")
    text = {"kind": "path", "path": "text.txt", "sha256": hashlib.sha256(TEXT).hexdigest()}
    quality = config["quality"] | {"pretraining": config["quality"]["pretraining"] | {"corpus": text}}
    clone.configure(grids=config["grids"], training=config["training"], quality=quality)
    return clone


def start_over(clone: Clone) -> None:
    """Forget everything that was made."""
    for name in ("results", ".snakemake"):
        shutil.rmtree(clone.root / name, ignore_errors=True)


def damage(clone: Clone, times: int, chance: random.Random) -> list[str]:
    """Damage the run files `times` in all; what was wrong."""
    wrong = [file for path in clone.runs() for file in mistaken(path, times // len(clone.runs()), chance)]
    print(f"{times} damaged run files tried, {len(wrong)} taken for another row", flush=True)
    return ["a damaged run file was taken for another row"] * len(wrong)


def kill(place: Disturbed, undisturbed: Path, victim: str, delay: float) -> tuple[bool, list[str]]:
    """(whether the victim was there to be killed, what was lost) of one experiment that is killed after `delay` s."""
    start_over(place.clone)
    moment = time.monotonic() + delay
    killed = place.kill(victim, lambda: time.monotonic() >= moment)
    starts = len(place.finish())
    found = lost(place.clone.results, undisturbed)
    said = f"{victim} killed" if killed else f"{victim} had ended"
    print(
        f"after {delay:.1f} s: {said}, finished by start {starts + 1}, {'; '.join(found) or 'nothing lost'}", flush=True
    )
    return killed, found


def soak(scratch: Path, kills: int, damages: int, chance: random.Random) -> list[str]:
    """Everything that was lost."""
    place = Disturbed.of(smoke(scratch / "clone"))
    began = time.monotonic()
    place.finish()
    seconds = time.monotonic() - began
    print(f"undisturbed: {len(place.clone.runs())} runs, all in {seconds:.0f} s", flush=True)
    undisturbed = shutil.copytree(place.clone.results, scratch / "undisturbed")
    problems = damage(place.clone, damages, chance)
    latest = dict.fromkeys(VICTIMS, seconds)  # a victim that had ended by then is sought earlier
    done = survived = moments = 0
    while done < kills and moments < 3 * kills:
        victim, moments = VICTIMS[done % len(VICTIMS)], moments + 1
        delay = chance.uniform(0, latest[victim])
        killed, found = kill(place, undisturbed, victim, delay)
        problems += found
        done, survived = done + killed, survived + (killed and not found)
        if not killed:
            latest[victim] = delay
    shutil.rmtree(place.runtime)
    print(f"{moments} moments tried, {done} kills, {survived} survived")
    return problems + ["there was too little to kill"] * (done < kills)


def main() -> int:
    """Soak; the exit status is 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="kills at random moments (default: 20)")
    parser.add_argument("--damages", type=int, default=20_000, help="damaged run files to read (default: 20000)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of every random choice")
    given = parser.parse_args()
    print(f"--seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        problems = soak(Path(scratch), given.kills, given.damages, random.Random(given.seed))
    print(f"{len(problems)} losses")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
