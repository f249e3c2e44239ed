"""A copy of this repository in which a test can run Snakemake as a user does: fast runs, own text, own results."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).parents[2]
TEXT = bytes(range(32, 127)) * 100

TINY = {"layers": 2, "width": 32, "heads": 2, "vocab": 64, "context": 64}
GRID = {"model": "tiny", "regime": ["full", "lora", "qlora"], "rank": [2], "batch": 1, "seq": 16}


@dataclass(frozen=True)
class Clone:
    """A working copy in `root` whose experiment is described by `overlay.json`, laid over config/config.yaml."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> "Clone":
        """Copy what git tracks or would track; links stay links."""
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if os.path.lexists(REPOSITORY / name):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, root / name, follow_symlinks=False)
        (root / "text.txt").write_bytes(TEXT)
        clone = cls(root)
        clone.configure()
        return clone

    @property
    def results(self) -> Path:
        """Where the experiment's files are."""
        return self.root / "results" / "tiny" / "cpu"

    def configure(self, **changes: object) -> None:
        """Describe the experiment: a model that trains in milliseconds, one run per regime, and `changes`."""
        config = {
            "experiment": "tiny",
            "models": {"tiny": TINY},
            "grids": [GRID],
            "training": {"warmup_steps": 1, "measured_steps": 1, "threads": 1},
            "corpus": {"kind": "path", "path": "text.txt", "sha256": hashlib.sha256(TEXT).hexdigest()},
            "quality": None,
        }
        (self.root / "overlay.json").write_text(json.dumps(config | changes))

    def command(self, *arguments: str) -> list[str]:
        """The command line of Snakemake on this experiment."""
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", "overlay.json"]

    def snakemake(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run Snakemake to its end and return what it printed; `status` is what it must exit with."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def footprint(self, *arguments: str) -> subprocess.CompletedProcess:
        """The command `footprint` of this clone."""
        program = "from footprint.command.main import main; raise SystemExit(main())"
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(self.root / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """How often each rule would run now."""
        lines = self.snakemake("--dry-run", "--quiet", "rules", *arguments).splitlines()
        counts = (line.split() for line in lines)
        return {words[0]: int(words[1]) for words in counts if len(words) == 2 and words[1].isdigit()}

    def kill_when(self, ready: Callable[[], bool], *arguments: str) -> None:
        """Start Snakemake and kill it with everything it started as soon as `ready`."""
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while not ready():
            assert process.poll() is None, "Snakemake ended before it could be killed"
            assert time.monotonic() < deadline, "nothing to kill happened in five minutes"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def runs(self) -> list[Path]:
        """The files of finished runs."""
        return sorted((self.results / "runs").glob("*.json"))

    def recorded(self) -> int:
        """How many runs Snakemake has noted as finished; a row that it has not seen yet is measured again."""
        logs = (self.root / ".snakemake" / "log").glob("*.log")
        return sum(path.read_text().count("(Rule: measure)") for path in logs)

    def table(self, name: str) -> pd.DataFrame:
        """One of the experiment's tables."""
        return pd.read_csv(self.results / f"{name}.csv", keep_default_na=False, na_values=[""])
