"""No run takes the whole machine: what a process may hold, and a sentence where a run would take more."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from clone import REPOSITORY, TEXT, TINY, Clone
from tiny import TRAINING, run

from footprint.jobs.available_memory import room
from footprint.jobs.host_memory import MARGIN, PROCESS, largest_peak, needed_bytes
from footprint.predict.prediction import predict
from footprint.spec.handover import run_json
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec

MIB, GIB = 2**20, 2**30
HUGE = {"layers": 80, "width": 8192, "heads": 64, "vocab": 64, "context": 64}
"""A model whose full fine-tuning takes a terabyte."""

MEASURE = ["measure", "--model", "minigpt-85m", "--regime", "full"]


# --- what a process may hold -----------------------------------------------------------------------------------------


def machine(root: Path, groups: str, mounts: str, files: dict[str, object]) -> Path:
    """The files of a machine with 10 GiB free, as Linux lays them out."""
    told = {
        "proc/meminfo": f"MemTotal: {20 * 2**20} kB\nMemAvailable:   {10 * 2**20} kB\n",
        "proc/self/statm": "0 0 0 0 0 0 0",
        "proc/self/cgroup": groups,
        "proc/self/mountinfo": mounts,
    }
    for name, content in (told | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(content))
    return root


V2 = "32 24 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
DOCKER = "35 31 0:32 /docker/ab /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"


def test_without_control_groups_it_is_what_the_machine_has_free(tmp_path):
    found = room(machine(tmp_path, "0::/\n", "", {}))
    assert (found.size, found.bound) == (10 * GIB, "this machine")


def test_a_limit_above_the_own_control_group_binds_too_and_cached_files_do_not_count(tmp_path):
    above = "sys/fs/cgroup/job"
    found = room(
        machine(
            tmp_path,
            "0::/job/step\n",
            V2,
            {
                f"{above}/step/memory.max": "max",
                f"{above}/step/memory.current": 0,
                f"{above}/memory.max": 4 * GIB,
                f"{above}/memory.current": 3 * GIB,
                f"{above}/memory.stat": f"anon 5\nactive_file {GIB}\ninactive_file {GIB}\nshmem {GIB}\n",
            },
        )
    )
    assert found.size == 3 * GIB
    assert found.bound.endswith(above)


@pytest.mark.parametrize(
    ("groups", "mounts", "folder"),
    [("4:memory:/job\n0::/\n", V1, "memory/job"), ("4:cpu,memory:/docker/ab\n", DOCKER, "memory")],
    ids=["by-its-path", "from-within-a-container"],
)
def test_the_older_control_groups_bind_as_well(tmp_path, groups, mounts, folder):
    figures = {"limit_in_bytes": 2 * GIB, "usage_in_bytes": GIB, "stat": f"total_inactive_file {256 * MIB}\n"}
    files = {f"sys/fs/cgroup/{folder}/memory.{name}": value for name, value in figures.items()}
    assert room(machine(tmp_path, groups, mounts, files)).size == GIB + 256 * MIB


@pytest.mark.parametrize("limit", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
def test_a_limit_of_the_shell_is_all_a_process_may_hold(limit):
    program = f"import resource; resource.setrlimit({limit}, ({GIB}, {GIB})); "
    program += "from footprint.jobs.available_memory import room; print(room().size)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{GIB}\n"


def test_what_a_process_holds_already_counts_towards_it_but_not_the_files_it_maps(tmp_path):
    resident, files = 1000, 200  # pages
    found = room(machine(tmp_path, "", "", {"proc/self/statm": f"5000 {resident} {files} 0 0 0 0"}))
    assert found.size == 10 * GIB + 800 * os.sysconf("SC_PAGE_SIZE")


def test_the_largest_peak_that_a_size_allows_is_what_needs_that_size():
    spec = run("full")
    assert needed_bytes(spec, largest_peak(8 * GIB)) == pytest.approx(8 * GIB, abs=2)
    assert needed_bytes(spec, predict(spec)["peak_bytes"]) == PROCESS + MARGIN * predict(spec)["peak_bytes"]


def test_a_gpu_run_takes_of_its_host_what_does_not_grow_with_its_peak():
    small, large = (RunSpec(model=PRESETS["llama-7b"], regime="full", batch=size, device="cuda") for size in (1, 64))
    assert needed_bytes(small, 10 * GIB) == needed_bytes(large, 99 * GIB) < 8 * GIB


# --- the command -----------------------------------------------------------------------------------------------------


def limited(kilobytes: int | str, *words: str | Path, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess:
    """A command under a limit on its address space."""
    shell = ["sh", "-c", f'ulimit -v {kilobytes}; exec "$@"', "sh"]
    source = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    return subprocess.run([*shell, *words], cwd=cwd, env=source, capture_output=True, text=True, timeout=600)


def footprint(kilobytes: int | str, *arguments: str) -> subprocess.CompletedProcess:
    program = "import sys; from footprint.command.main import main; sys.exit(main())"
    return limited(kilobytes, sys.executable, "-c", program, *arguments)


def test_a_measurement_that_this_machine_cannot_hold_is_one_sentence_with_both_figures_and_a_way_out():
    done = footprint("unlimited", "measure", "--model", "llama-70b", "--regime", "full")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: llama-70b: the run takes about 1.26 TiB of host memory (predicted), and ")
    assert done.stderr.endswith("no single change makes it fit, use --force to measure anyway\n")
    assert done.stderr.count("\n") == 1


def test_a_refused_measurement_names_the_cheapest_change_that_fits():
    done = footprint(2_400_000, *MEASURE, "--precision", "fp32")
    assert done.returncode == 2
    assert "and the limit on its address space (ulimit -v) allows 2.29 GiB; with --" in done.stderr
    assert "it would take" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [1_100_000, 1_500_000, 2_000_000])
def test_a_forced_measurement_that_runs_out_of_memory_answers_so(kilobytes):
    done = footprint(kilobytes, *MEASURE, "--force")
    assert done.returncode == 1, done.stderr
    assert "Out of memory in " in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kilobytes", [300_000, 600_000, 800_000, 1_000_000])
def test_where_pytorch_does_not_find_room_for_itself_that_is_said(kilobytes):
    done = footprint(kilobytes, *MEASURE, "--force")
    assert done.returncode == 2
    assert done.stderr.startswith("error: measure: PyTorch ")
    assert done.stderr.count("\n") == 1


# --- the pipeline ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    return Clone.make(tmp_path_factory.mktemp("host"))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["grids", "quality"])
def test_an_experiment_with_a_run_too_large_for_this_machine_ends_before_anything_runs(clone, part):
    grid = {"model": "huge", "regime": "full", "batch": 1, "seq": 16}
    models = {"tiny": TINY, "huge": HUGE | {"vocab": 256}}
    changes = {"grids": [grid]} if part == "grids" else {"quality": study(grid)}
    clone.configure(models=models, **changes)
    printed = clone.snakemake(status=2)
    assert "error: model~huge_regime~full" in printed
    assert "of host memory (predicted), and " in printed
    assert "leave the run out of the config" in printed
    assert "Traceback" not in printed
    assert not clone.runs()


def study(grid: dict) -> dict:
    """A quality study of one cell."""
    corpus = {"kind": "path", "path": "text.txt", "sha256": "0" * 64}
    rates = dict.fromkeys(("full", "lora", "qlora"), 0.001)
    return {
        "pretraining": {"corpus": corpus, "steps": 1, "batch": 1, "seq": 16, "learning_rate": 0.001},
        "finetuning": {"steps": 3, "learning_rate": rates, "validate_every": 2, "validation_sequences": 1},
        "grids": [grid],
    }


@pytest.mark.slow
def test_a_job_without_memory_is_a_sentence_and_no_row(tmp_path):
    (tmp_path / "corpus.bin").write_bytes(TEXT)
    spec = RunSpec(model=PRESETS["minigpt-85m"], regime="full", batch=1, seq=16)
    outputs = ["--output", tmp_path / "row.json", "--timeline", tmp_path / "timeline.csv"]
    told = ["--run", run_json(spec, TRAINING), "--corpus", tmp_path / "corpus.bin"]
    done = limited(2_000_000, sys.executable, "scripts/measure.py", *told, *outputs)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model~minigpt-85m_regime~full")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "row.json").exists()


@pytest.mark.slow
def test_runs_side_by_side_share_the_memory_there_is(clone):
    """Each asks for 2 GiB and may hold that much alone, so one runs after the other; no more is asked than there is."""
    clone.configure(training={"warmup_steps": 1, "measured_steps": 1, "threads": 1})
    words = clone.command("--profile", "profiles/local", "results/tiny/cpu/measurements.csv")
    done = limited(2_000_000, *words, cwd=clone.root)
    assert done.returncode == 0, done.stderr
    assert "2048" in next(line for line in done.stderr.splitlines() if line.startswith("Provided resources"))
    assert len(clone.runs()) == 3
