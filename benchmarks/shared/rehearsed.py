"""What `footprint rehearse` answers, and the config.json of a model that a file in config/ describes."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAM = "from footprint.command.main import main; raise SystemExit(main())"


def rehearse(*options: str) -> dict:
    """What `footprint rehearse --json` says of a run; RuntimeError where it ended otherwise than well or for memory."""
    told = [sys.executable, "-c", PROGRAM, "rehearse", "--json", *options]
    done = subprocess.run(told, capture_output=True, text=True)
    answer = json.loads(done.stdout) if done.returncode in (0, 1) and done.stdout else {}
    if answer.get("status") not in ("ok", "oom"):
        raise RuntimeError(done.stderr[-2000:])
    return answer


@contextmanager
def config_files(models: Mapping[str, dict]) -> Iterator[dict[str, Path]]:
    """The path of a config.json for each model, by its name and named after it, while the block lasts."""
    with TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.json" for name in models}
        for name, path in paths.items():
            path.write_text(json.dumps(models[name]), encoding="utf-8")
        yield paths
