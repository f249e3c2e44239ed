"""The quality study: one base that every run starts from, losses that come back bit for bit, bytes as predicted."""

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clone import REPOSITORY
from tiny import GPT, HALF, LLAMA, TRAINING, every_regime, run

from footprint.errors import FootprintError
from footprint.experiment.config import parse
from footprint.experiment.yaml_file import load
from footprint.jobs.fresh import each_fresh
from footprint.predict.prediction import predict
from footprint.quality import base as bases
from footprint.quality.base import Base, pretrain
from footprint.quality.finetuning import finetune
from footprint.quality.schedule import LOWEST, warmup_then_cosine
from footprint.quality.storage import starting_points
from footprint.quality.study import Pace
from footprint.quality.validation import bits_per_byte, tensors
from footprint.spec.columns import TUNED_RESULTS
from footprint.spec.run import RunSpec
from footprint.spec.training import TrainingSpec
from footprint.text import corpus
from footprint.train.regimes import prepare

MODEL = replace(GPT, vocab=256)
TEXT = np.frombuffer(b"the quick brown fox jumps over the lazy dog; " * 200, dtype=np.uint8)
PACE = Pace(steps=8, learning_rate=1e-3, validate_every=3, validation_sequences=4)
STEPS, RATE = 20, 3e-3


def base_run(model=MODEL) -> RunSpec:
    return run(model=model, precision="amp")


@pytest.fixture(scope="module")
def base_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of the tiny model that has learnt a little."""
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    pretrain(base_run(), TRAINING, TEXT, steps=STEPS, learning_rate=RATE, output=path)
    return path


@pytest.fixture
def base(base_file: Path) -> Base:
    return Base(base_file, MODEL)


def tuned(base_path: Path, regime: str, seed: int = 0, **axes):
    """Row and curve of a fine-tuning in a process of its own, as every measurement is."""
    spec = run(regime, model=MODEL, **{"precision": "mixed"} | axes)
    return next(each_fresh(_Finetune(base_path), [spec], replace(TRAINING, seed=seed)))


class _Finetune:
    """A function of a run that another process can call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, spec: RunSpec, training: TrainingSpec) -> tuple:
        return finetune(spec, training, PACE, Base(self.path, MODEL), (TEXT, TEXT[:400]))


def test_a_fine_tuning_that_its_card_has_no_room_for_leaves_no_number_and_no_curve(base_file):
    limited, spec = replace(TRAINING, memory_limit=2**16), run("lora", model=MODEL, precision="mixed")
    row, curve = next(each_fresh(_Finetune(base_file), [spec], limited))
    assert row["status"] == "oom"
    assert [row[name] for name in TUNED_RESULTS] == [None] * len(TUNED_RESULTS)
    assert curve.empty


def test_the_rate_rises_then_falls_to_a_tenth():
    fraction = warmup_then_cosine(200)
    rates = [fraction(step) for step in range(200)]
    assert rates[0] == 0.1
    assert max(rates) == 1.0
    assert rates.index(1.0) == 9  # the warm-up's last step
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert LOWEST < rates[-1] < LOWEST + 0.001


def test_a_training_that_goes_on_takes_the_rates_it_would_have_taken():
    whole, rest = warmup_then_cosine(50), warmup_then_cosine(50, first=20)
    assert [rest(step) for step in range(30)] == [whole(step) for step in range(20, 50)]


def test_pretraining_teaches_the_model_its_text(base: Base):
    held_out = tensors(corpus.held_out(TEXT, batch=2, seq=40, sequences=8, vocab=256))
    drawn = prepare(base_run(), half=HALF, seed=0)
    learnt = prepare(base_run(), half=HALF, seed=0, fill=base.fill)
    before, after = (bits_per_byte(model, held_out, base_run(), half=HALF) for model in (drawn, learnt))
    assert before == pytest.approx(8, abs=0.3), "an untrained model knows nothing of a byte"
    assert after < before - 2


@pytest.mark.parametrize("model", [MODEL, replace(LLAMA, vocab=256, tied_head=True)], ids=["gpt", "tied llama"])
def test_an_interrupted_pretraining_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model):
    path = tmp_path / "base.safetensors"

    def pretrained() -> bytes:
        pretrain(base_run(model), TRAINING, TEXT, steps=STEPS, learning_rate=RATE, output=path)
        return path.read_bytes()

    whole = pretrained()
    path.unlink()
    written = []

    def interrupted(*arguments):
        write(*arguments)
        written.append(arguments)
        if len(written) == 4:
            raise KeyboardInterrupt

    write = bases._save
    monkeypatch.setattr(bases, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrained()
    assert not path.exists()
    monkeypatch.undo()
    assert pretrained() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_base_under_another_name_is_refused(base_file: Path, tmp_path: Path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(base_file.read_bytes())
    with pytest.raises(FootprintError, match="was pretrained as base, not as its name says"):
        Base(other, MODEL)


def test_a_checkpoint_of_another_declaration_is_not_gone_on_from(tmp_path: Path, base_file: Path):
    stale = bases._Checkpoint(tmp_path / "base.checkpoint", {"steps": STEPS + 1, "learning_rate": RATE})
    model = prepare(base_run(), half=HALF, seed=1)
    stale.write(model, bases.build(base_run(), list(model.parameters())), 10)
    pretrain(base_run(), TRAINING, TEXT, steps=STEPS, learning_rate=RATE, output=tmp_path / "base.safetensors")
    assert (tmp_path / "base.safetensors").read_bytes() == base_file.read_bytes()


def test_a_loss_that_is_no_number_makes_no_base(tmp_path: Path):
    with pytest.raises(FootprintError, match=r"^quality\.pretraining\.learning_rate: the loss is (nan|inf) after"):
        pretrain(base_run(), TRAINING, TEXT, steps=STEPS, learning_rate=1e30, output=tmp_path / "base.safetensors")
    assert not (tmp_path / "base.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x10" + bytes(30)])
def test_a_file_that_is_no_base_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "base.safetensors").write_bytes(content)
    with pytest.raises(FootprintError, match="not a readable base"):
        Base(tmp_path / "base.safetensors", MODEL)


def test_a_base_of_other_sizes_is_refused(base_file: Path):
    with pytest.raises(FootprintError, match="is the base of another model than tiny"):
        Base(base_file, replace(MODEL, layers=3))


@every_regime
def test_every_regime_starts_from_the_weights_of_the_base(base: Base, regime: str):
    model = prepare(run(regime, model=MODEL), half=HALF, seed=7, fill=base.fill)
    for name in ("tokens.weight", "head.weight", "blocks.1.mlp_norm.weight"):
        assert torch.equal(model.get_parameter(name), base.weight(name))


@every_regime
def test_a_fine_tuning_takes_the_bytes_that_were_predicted(base_file: Path, regime: str):
    row, _ = tuned(base_file, regime)
    predicted = predict(run(regime, model=MODEL, precision="mixed"), TRAINING)
    assert row["status"] == "ok"
    assert row["peak_bytes"] == predicted["peak_bytes"]
    assert row["peak_phase"] == predicted["peak_phase"]


@every_regime
def test_the_same_seed_gives_the_same_losses_and_another_others(base_file: Path, regime: str):
    first, again, other = (tuned(base_file, regime, seed=seed)[1] for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first["bits_per_byte"].equals(other["bits_per_byte"])


def test_a_fine_tuning_is_validated_before_the_first_step_and_after_the_last(base_file: Path):
    row, curve = tuned(base_file, "lora")
    validated = curve[curve["split"] == "validation"].set_index("step")["bits_per_byte"]
    assert list(validated.index) == [0, 3, 6, 8]
    assert row["base_bits_per_byte"] == validated[0]
    assert row["validation_bits_per_byte"] == validated[8]
    assert list(curve.loc[curve["split"] == "training", "step"]) == list(range(1, 9))
    assert row["validation_bits_per_byte"] < row["base_bits_per_byte"]


def test_checkpointing_changes_no_loss(base_file: Path):
    losses = [tuned(base_file, "full", checkpointing=mode)[1]["bits_per_byte"] for mode in ("none", "block", "sqrt")]
    assert losses[0].equals(losses[1])
    assert losses[0].equals(losses[2])


def test_fewer_bits_hold_the_base_less_exactly(base: Base):
    texts = {"pretraining": TEXT, "finetuning": TEXT[:500]}
    rows = {row["storage"]: row for row in starting_points(base_run(), TRAINING, base, texts, sequences=4)}
    assert list(rows) == ["fp32", "bf16", "nf4", "nf4-double"]
    sizes = {storage: row["weights_bytes"] for storage, row in rows.items()}
    assert sizes["fp32"] == 2 * sizes["bf16"] > 2 * sizes["nf4"]
    # Doubly quantized scales come with tables of 1 KiB for each Linear, more than they save in one this small.
    assert sizes["bf16"] > sizes["nf4-double"] > sizes["nf4"]
    # bf16 keeps 8 bits of the significand, so it rounds by 2^-9 at most; NF4 keeps 16 levels.
    assert rows["fp32"]["weight_error"] == 0 < rows["bf16"]["weight_error"] < 2**-9 < rows["nf4"]["weight_error"]
    assert 0.05 < rows["nf4"]["weight_error"] < 0.15
    assert rows["nf4-double"]["weight_error"] == pytest.approx(rows["nf4"]["weight_error"], rel=0.05)


def section(**changes) -> dict:
    """The `quality` of a config that is right but for `changes`."""
    text = {"kind": "path", "path": "text.txt", "sha256": "0" * 64}
    pretraining = {"corpus": text, "steps": 4, "batch": 1, "seq": 32, "learning_rate": 0.001}
    rates = dict.fromkeys(("full", "lora", "qlora"), 0.001)
    finetuning = {"steps": 5, "learning_rate": rates, "validate_every": 2, "validation_sequences": 2}
    grid = {"model": "minigpt-3m", "regime": ["full", "lora"], "seq": 32, "seed": [0, 1]}
    whole = {"pretraining": pretraining, "finetuning": finetuning, "grids": [grid]}
    for path, value in changes.items():
        *outer, last = path.split("__")
        target = whole
        for key in outer:
            target = target[int(key) if key.isdigit() else key]
        target[last] = value
    return whole


def study(quality: object):
    config = load(REPOSITORY / "config" / "config.yaml")
    return parse(config | {"quality": quality}).study


def test_a_study_is_its_grids_times_their_seeds():
    runs = study(section()).runs
    assert [(run.spec.regime, run.seed) for run in runs] == [("full", 0), ("full", 1), ("lora", 0), ("lora", 1)]
    assert len({run.name for run in runs}) == 4
    assert study(None) is None


def test_a_base_is_shared_by_what_is_declared_alike_and_by_nothing_else():
    training = TrainingSpec()
    (name,) = study(section()).bases(training)
    assert list(study(section(finetuning__steps=9)).bases(replace(training, measured_steps=3, seed=5))) == [name]
    for change in ({"pretraining__steps": 5}, {"pretraining__seed": 1}, {"pretraining__learning_rate": 0.002}):
        assert list(study(section(**change)).bases(training)) != [name]
    assert list(study(section()).bases(replace(training, threads=1))) != [name], "threads decide the last bits"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"finetuning__steps": 3}, "quality.finetuning.steps: 3 is not allowed; use at least 4"),
        ({"pretraining__seq": 257}, "quality.pretraining.seq: 257 is not allowed; use at most 256, the context"),
        ({"pretraining__seq": 16}, "quality.grids.seq: 32 is not allowed; use at most pretraining's seq 16"),
        ({"grids__0__rank": 1000}, "quality.grids[0].rank: 1000 is not allowed; use at most 256"),
        ({"grids__0__model": "minigpt-4m"}, "quality.grids[0].model: unknown model 'minigpt-4m'"),
        ({"grids__0__seed": -1}, "quality.grids[0].seed: -1 is not allowed"),
        ({"grids__0__seeds": 1}, "quality.grids[0].seeds: unknown key (did you mean seed?)"),
        (
            {"pretraining__learning_rate": 0},
            "quality.pretraining.learning_rate: 0 is not allowed; use a number above 0",
        ),
        ({"pretraining__learning_rate": "1e-3"}, "(YAML reads 1e-3 as text)"),
        ({"finetuning__learning_rate": {"full": 0.1}}, "quality.finetuning.learning_rate.lora: is missing"),
        ({"pretraining__corpus": {"kind": "path"}}, "quality.pretraining.corpus.sha256: is missing"),
        (
            {"pretraining__corpus": {"kind": "path", "sha256": "0" * 64}},
            "quality.pretraining.corpus.path: is missing; kind: path needs path",
        ),
        ({"grids": []}, "quality.grids: [] is not allowed; use a list of 1 to 1000 sub-grids"),
    ],
)
def test_a_study_that_cannot_be_carried_out_is_refused_by_its_key(changes: dict, says: str):
    with pytest.raises(FootprintError) as refusal:
        study(section(**changes))
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_study_that_is_no_mapping_is_refused():
    with pytest.raises(FootprintError, match=r"^quality: 7 is not allowed; use a mapping with the keys pretraining"):
        study(7)


def test_a_vocabulary_that_does_not_hold_bytes_has_no_bits_per_byte():
    config = load(REPOSITORY / "config" / "config.yaml")
    small = {"small": {"layers": 1, "width": 32, "heads": 2, "vocab": 64, "context": 64}}
    with pytest.raises(FootprintError, match=r"^models\.small\.vocab: 64 is not allowed; use at least 256"):
        parse(config | {"models": small, "quality": section(grids__0__model="small")})


def test_a_seed_belongs_to_the_study_alone():
    config = load(REPOSITORY / "config" / "config.yaml")
    with pytest.raises(FootprintError, match=r"^grids\[0\]\.seed: 1 is not allowed; use training\.seed"):
        parse(config | {"grids": [{"model": "minigpt-3m", "regime": "full", "seed": 1}]})


def test_pretraining_as_a_command_refuses_what_is_no_run(tmp_path: Path):
    command = [sys.executable, "scripts/pretrain.py", "--run", "{}", "--corpus", "none", "--steps", "1"]
    command += ["--learning-rate", "0.1", "--output", str(tmp_path / "base.safetensors")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: run: not a run as")


def test_a_study_asks_for_the_memory_of_its_pretraining_too():
    wide = study(section(pretraining__batch=64))
    assert max(spec.batch for spec in wide.specs) == 64
    assert {run.spec for run in wide.runs} < set(wide.specs)
