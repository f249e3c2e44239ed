"""The command `footprint`: what it prints, its exit status, and one sentence for whatever a person may mistype."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clone import REPOSITORY

from footprint.command import asked
from footprint.command import main as cli
from footprint.predict.parameters import parameter_count
from footprint.predict.prediction import predict
from footprint.spec.cards import find
from footprint.spec.columns import BUCKET_BYTES, MEASUREMENTS, PHASE_PEAKS, PREDICTIONS
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec
from footprint.spec.timeline import read_timeline
from footprint.spec.training import TrainingSpec
from footprint.spec.units import format_bytes, parse_bytes

PREDICT = ["predict", "--model", "minigpt-85m", "--regime", "qlora", "--rank", "8", "--batch", "4", "--seq", "512"]
FIT = ["fit", "--model", "llama-7b", "--gpu-memory", "24GiB"]
SIZES = '{"layers": 2, "width": 64, "heads": 4, "vocab": 256, "context": 128}'


VERDICT = ("gpu_memory_bytes", "verdict", "fits", "headroom_bytes")


def status_of(*arguments: str) -> int:
    """Exit status of a command line."""
    try:
        return cli.main(arguments)
    except SystemExit as stopped:
        return stopped.code


@pytest.fixture
def said(capsys):
    """Runs a command line; (exit status, what it printed, its errors)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return status_of(*arguments), *capsys.readouterr()

    return run


@pytest.fixture
def answered(said):
    """Runs a command line with --json; (exit status, the object it printed)."""

    def run(*arguments: str) -> tuple[int, dict]:
        status, out, err = said(*arguments, "--json")
        assert err == ""
        return status, json.loads(out)

    return run


# --- predict --------------------------------------------------------------------------------------------------------


def test_predict_prints_the_row_that_the_pipeline_writes(answered):
    spec = RunSpec(model=PRESETS["minigpt-85m"], regime="qlora", rank=8, batch=4, seq=512)
    status, answer = answered(*PREDICT)
    assert status == 0
    assert answer == predict(spec) | dict.fromkeys(VERDICT)


def test_the_keys_of_the_json_are_the_columns_and_the_verdict(answered):
    for card in ([], ["--gpu-memory", "24GiB"]):
        _, answer = answered(*PREDICT, *card)
        assert list(answer) == [*PREDICTIONS, *VERDICT]


def test_a_run_fits_up_to_the_last_byte(answered):
    peak = answered(*PREDICT)[1]["peak_bytes"]
    for memory, status in ((peak, 0), (peak - 1, 1)):
        found, answer = answered(*PREDICT, "--device", "cpu", "--gpu-memory", f"{memory}B")
        assert found == status
        assert answer["fits"] is (status == 0)
        assert answer["headroom_bytes"] == memory - peak


def test_the_exit_status_is_the_verdict_with_the_context_counted(answered, said):
    """A card holds what the allocator reserves and the CUDA context beside it: before, 111 MiB to spare were `fits`."""
    row = answered(*PREDICT, "--device", "cuda")[1]
    needed = row["process_peak_bytes"]
    for memory, status, verdict in ((needed, 0, "fits"), (row["requested_peak_bytes"], 1, "does not fit")):
        found, answer = answered(*PREDICT, "--gpu-memory", f"{memory}B")
        assert (found, answer["verdict"], answer["fits"]) == (status, verdict, status == 0)
        assert (answer["headroom_bytes"] >= 0) is (status == 0)
        words = " ".join(said(*PREDICT, "--gpu-memory", f"{memory}B")[1].split())
        assert "It fits on a card" in words if status == 0 else "It does not fit on a card" in words
        assert "The CUDA context is taken to be" in words


def test_a_named_card_brings_its_memory_its_kernels_and_its_context(answered, said):
    status, answer = answered(*PREDICT, "--card", "Tesla-T4".removeprefix("Tesla-"))
    card = find("t4")
    assert (status, answer["gpu_memory_bytes"]) == (0, card.total)
    assert answer["headroom_bytes"] == card.total - answer["process_peak_bytes"]
    out = " ".join(said(*PREDICT, "--card", "T4")[1].split())
    assert "It fits on Tesla T4 (14.6 GiB)" in out
    assert "No GPU has checked it but other people's T4." in out
    newer = answered(*PREDICT, "--card", "a10g")[1]
    assert newer["peak_bytes"] < answer["peak_bytes"], "flash attention needs no scores of every head"
    assert answered(*PREDICT, "--card", "t4", "--gpu-memory", "1GiB")[1]["gpu_memory_bytes"] == 2**30


def test_the_timeline_of_a_prediction_peaks_where_the_prediction_does(answered, tmp_path):
    for where in (["--card", "t4"], []):
        path = tmp_path / "live.csv"
        _, answer = answered(*PREDICT, *where, "--timeline", str(path))
        points = read_timeline(path)
        assert max(point.total for point in points) == answer["requested_peak_bytes"]
        assert {point.phase for point in points} == {"forward", "backward", "step"}


@pytest.mark.parametrize("written", ["24", "24GB", "24G", "24gib", "24 GiB", "24g", "24576MiB", "25769803776"])
def test_a_card_s_memory_is_read_as_people_write_it_and_the_answer_says_how(answered, said, written):
    assert answered(*PREDICT, "--gpu-memory", written)[1]["gpu_memory_bytes"] == parse_bytes("24GiB")
    out = said(*PREDICT, "--gpu-memory", written)[1]
    assert "on a card (24.0 GiB)" in " ".join(out.split())
    assert (f"--gpu-memory {written} is read as 24.0 GiB." in out) is not written.endswith("iB")


def test_the_first_line_says_which_device_the_answer_is_for_and_how_to_ask_for_another(said):
    out = said(*PREDICT)[1]
    assert out.startswith("For a CPU.")
    assert "--card a10g or --gpu-memory 24GiB" in " ".join(out.split())
    assert said(*PREDICT, "--gpu-memory", "24GiB")[1].startswith("For an NVIDIA GPU.\n")


@pytest.mark.parametrize("columns", [None, "60", "100"])
@pytest.mark.parametrize("command", ["predict", "fit", "help"])
def test_sentences_are_as_wide_as_the_terminal(said, monkeypatch, columns, command):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    wide = {"predict": [*PREDICT, "--gpu-memory", "1GiB"], "fit": FIT, "help": ["fit", "--help"]}[command]
    lines = [line for line in said(*wide)[1].splitlines() if not line.startswith("  ")]
    assert max(map(len, lines)) <= int(columns or 80)
    assert max(map(len, lines)) > int(columns or 80) - 25


def test_names_may_be_written_as_people_write_them(answered):
    _, plain = answered(*PREDICT, "--targets", "qv")
    written = [word.replace("qlora", "QLoRA") for word in PREDICT]
    assert answered(*written, "--targets", "v_proj,q", "--precision", "Mixed")[1] == plain


def test_a_card_means_cuda_unless_the_device_is_said(answered):
    _, on_gpu = answered(*PREDICT, "--device", "cuda")
    assert answered(*PREDICT, "--gpu-memory", "24GiB")[1]["peak_bytes"] == on_gpu["peak_bytes"]
    _, on_cpu = answered(*PREDICT)
    assert answered(*PREDICT, "--gpu-memory", "24GiB", "--device", "cpu")[1]["peak_bytes"] == on_cpu["peak_bytes"]


def test_the_text_names_every_phase_bucket_and_the_textbook(said):
    status, out, err = said(*PREDICT)
    assert (status, err) == (0, "")
    for name in (*PHASE_PEAKS, *BUCKET_BYTES):
        assert name.removesuffix("_bytes").removesuffix("_peak") in out
    assert out.count("<- the peak") == 1
    assert "The textbook (16 bytes per trained parameter" in out


def test_what_does_not_fit_comes_with_the_cheapest_change_that_does(said, answered):
    run = ["predict", "--model", "llama-7b", "--regime", "lora", "--seq", "2048", "--gpu-memory", "24GiB"]
    status, out, _ = said(*run)
    assert status == 1
    words = " ".join(out.split())
    assert "It does not fit on a card (24.0 GiB)" in words
    assert "Cheaper changes that are not enough: --optimizer adamw-fused." in words
    change = words.split("that makes it fit: ")[1].split(", with a peak")[0].split()
    assert change == ["--checkpointing", "block"]
    assert answered(*run, *change)[0] == 0


def test_of_a_number_the_answer_says_that_one_more_would_not_do(said, answered):
    run = ["predict", "--model", "llama-7b", "--regime", "qlora", "--checkpointing", "sqrt", "--seq", "1024"]
    run += ["--optimizer", "adamw-fused", "--batch", "64", "--gpu-memory", "24GiB"]
    words = " ".join(said(*run)[1].split())
    batch = int(words.split("--batch ")[1].split()[0])
    assert f"--batch {batch} ({batch + 1} is too large)" in words
    assert batch & (batch - 1), "a power of two would be the answer of halving"
    assert [answered(*run, "--batch", str(size))[0] for size in (batch, batch + 1)] == [0, 1]


def test_the_weights_of_full_fine_tuning_are_those_that_train_and_their_masters(said):
    out = said("predict", "--model", "minigpt-3m", "--regime", "full")[1]
    trained = 2 * parameter_count(PRESETS["minigpt-3m"])
    assert f"trained {format_bytes(trained)}, master {format_bytes(2 * trained)}" in out


def test_full_fine_tuning_has_no_adapters_to_speak_of(said):
    _, out, _ = said("predict", "--model", "minigpt-3m", "--regime", "full", "--rank", "4")
    assert "rank" not in out
    assert "adapter" not in out


def test_a_model_may_be_spelled_out(answered):
    status, answer = answered("predict", "--model-json", SIZES, "--regime", "full", "--seq", "128")
    assert (status, answer["model"]) == (0, "custom")


def test_a_config_brings_its_models_its_device_and_its_training(answered, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(f"models: {{mine: {SIZES}}}\ntraining: {{threads: 64}}\n")
    _, answer = answered("predict", "--config", str(config), "--model", "mine", "--regime", "lora", "--seq", "64")
    model = asked.setup(config, None).models["mine"]
    spec = RunSpec(model=model, regime="lora", seq=64)
    assert answer["peak_bytes"] == predict(spec, TrainingSpec(threads=64))["peak_bytes"]
    assert answer["peak_bytes"] != predict(spec)["peak_bytes"]
    config.write_text("device: cuda\n")
    _, answer = answered("predict", "--config", str(config), "--model", "minigpt-3m", "--regime", "lora")
    on_gpu = RunSpec(model=PRESETS["minigpt-3m"], regime="lora", device="cuda")
    assert answer["peak_bytes"] == predict(on_gpu)["peak_bytes"]


def test_the_published_config_works_as_a_config(said):
    config = REPOSITORY / "config" / "config.yaml"
    assert said("predict", "--config", str(config), "--model", "minigpt-85m", "--regime", "full")[0] == 0


@pytest.mark.parametrize("name", ["smoke.yaml", "quality.yaml", "sweep.yaml", "gpu.yaml", "fp16.yaml"])
def test_every_shipped_config_works_as_a_config(said, name):
    config = str(REPOSITORY / "config" / name)
    run = ["predict", "--config", config, "--model", "minigpt-3m", "--regime", "lora", "--seq", "64"]
    assert said(*run, "--device", "cuda")[0] == 0
    status, _, error = said(*run, "--device", "cpu")
    assert (status, "fp16 needs device: cuda" in error) == ((2, True) if name == "fp16.yaml" else (0, False))


def test_a_preset_may_be_redefined_smaller_than_any_default(answered, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("models: {minigpt-3m: {layers: 1, width: 8, heads: 1, vocab: 2, context: 4}}\n")
    status, _ = answered("predict", "--config", str(config), "--model", "minigpt-3m", "--regime", "full", "--seq", "4")
    assert status == 0


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-"])
def test_an_answer_that_cannot_be_written_is_one_sentence_and_not_a_verdict(redirected):
    command = f"{sys.executable} -c 'from footprint.command.main import main; raise SystemExit(main())'"
    done = subprocess.run(f"{command} {' '.join(PREDICT)} {redirected}", shell=True, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the answer cannot be written")
    assert done.stderr.count("\n") == 1


# --- fit ------------------------------------------------------------------------------------------------------------


def test_fit_ranks_what_fits_and_says_why_the_rest_does_not(said):
    status, out, err = said(*FIT)
    assert (status, err) == (0, "")
    ranked = " ".join(out.split())
    assert "regime full, lora, qlora; then checkpointing none, block, sqrt" in ranked
    assert "Does not fit, not even 1 x 128" in out
    assert "GiB more would do; largest bucket: optimizer" in out


def test_every_setting_that_fit_lists_is_one_that_predict_accepts(answered):
    _, answer = answered(*FIT)
    card = ["--gpu-memory", "24GiB"]
    for setting in answer["settings"]:
        axes = [f"--{axis}={setting[axis]}" for axis in ("regime", "checkpointing", "batch", "seq")]
        status, predicted = answered("predict", "--model", "llama-7b", *axes, *card)
        assert predicted["peak_bytes"] == setting["peak_bytes"]
        assert status == {"fits": 0, "tight": 3, "does not fit": 1}[setting["verdict"]]


def test_nothing_that_fits_is_exit_status_one(answered):
    status, answer = answered("fit", "--model", "llama-70b", "--gpu-memory", "24GiB", "--regime", "full,lora")
    assert status == 1
    assert not any(setting["fits"] for setting in answer["settings"])


def test_where_every_axis_varies_the_first_line_ends_with_the_last_word(said):
    sizes = ["--model-json", SIZES, "--gpu-memory", "24GiB", "--seq", "64"]
    axes = {"rank": "4,8", "targets": "qv,attention", "precision": "mixed,bf16", "optimizer": "adamw,adamw-fused"}
    options = [word for axis, values in axes.items() for word in (f"--{axis}", values)]
    first = said("fit", *sizes, *options, "--quantization", "nf4,nf4-double")[1].splitlines()[0]
    assert first == "custom on a card (24.0 GiB)"


def test_fit_takes_batches_and_sets_of_linears(answered):
    _, answer = answered(*FIT, "--regime", "LoRA", "--batch", "2,4", "--targets", "gate_proj,up_proj")
    assert {setting["targets"] for setting in answer["settings"]} == {"gate+up"}
    assert {setting["batch"] for setting in answer["settings"]} <= {2, 4}


def test_fit_searches_the_values_it_is_given(answered):
    _, answer = answered(*FIT, "--regime", "qlora", "--precision", "mixed,bf16", "--seq", "1024,512")
    assert {setting["precision"] for setting in answer["settings"]} == {"mixed", "bf16"}
    assert {setting["seq"] for setting in answer["settings"]} <= {512, 1024}
    assert {setting["regime"] for setting in answer["settings"]} == {"qlora"}


# --- measure --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_measure_sets_a_measurement_beside_the_prediction():
    run = ["measure", "--model-json", SIZES, "--regime", "full", "--batch", "2", "--seq", "40", "--precision", "fp32"]
    done = footprint(*run, "--json")
    answer = json.loads(done.stdout)
    assert set(answer["measured"]) == set(MEASUREMENTS)
    assert answer["measured"]["peak_bytes"] == answer["predicted"]["peak_bytes"]
    assert "exact" in footprint(*run).stdout


# --- start ----------------------------------------------------------------------------------------------------------


def footprint(*arguments: str, program: str = "import sys; from footprint.command.main import main; sys.exit(main())"):
    """The command in a process of its own."""
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("arguments", [PREDICT, [*PREDICT, "--gpu-memory", "1GiB"], FIT])
def test_neither_torch_nor_pandas_is_imported_for_a_prediction(arguments):
    program = (
        "import sys; from footprint.command.main import main; main(sys.argv[1:]); "
        "print({'torch', 'pandas', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    assert footprint(*arguments, program=program).stderr == "set()\n"


def test_a_reader_that_stops_reading_is_no_error():
    closed = "import os, sys; os.close(1); os.dup2(os.pipe()[1], 1)"
    program = f"{closed}\nfrom footprint.command.main import main; sys.exit(main())"
    assert footprint(*PREDICT, program=program).stderr == ""


def test_ctrl_c_ends_a_search_without_a_word():
    command = [sys.executable, "-c", "from footprint.command.main import main; print('on', flush=True); exit(main())"]
    search = [*command, "fit", "--model", "llama-70b", "--card", "h200", "--gpus", "1,2,4,8"]
    with subprocess.Popen(
        search, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        process.stdout.readline()
        time.sleep(1)  # the search takes several
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert (*process.communicate(), process.returncode) == ("", "", cli.STOPPED)


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["fit", "--help"], ["measure", "--help"]])
def test_help_names_what_is_allowed(said, arguments):
    status, out, err = said(*arguments)
    assert (status, err) == (0, "")
    assert len(arguments) == 1 or all(preset in out for preset in PRESETS)


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("predict --reg", ["--regime"]),
        ("predict --regime q", ["qlora"]),
        ("fit --model llama-", ["llama-7b", "llama-13b", "llama-70b"]),
        ("fit --precision ", ["mixed", "amp", "bf16", "fp32"]),
    ],
)
def test_a_shell_completes_commands_options_and_values(said, tmp_path, typed, proposed):
    status, script, err = said("--print-completion", "bash")
    assert (status, err) == (0, "")
    (tmp_path / "completion.sh").write_text(script)
    words = typed.split(" ")
    line = f"COMP_WORDS=(footprint {' '.join(word or chr(34) * 2 for word in words)}); COMP_CWORD={len(words)}"
    shell = f"source completion.sh; {line}; _shtab_footprint; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == proposed


def test_version(said):
    assert said("--version")[:2] == (0, "footprint 0.1.0\n")


# --- what a person may mistype --------------------------------------------------------------------------------------


def lora(*model: str) -> list[str]:
    return ["predict", *model, "--regime", "lora"]


RUN = lora("--model", "minigpt-3m")

# (the command line, how the answer begins after "error: ", what else it says)
MISTAKES = [
    # commands and options
    ([], "the following arguments are required: COMMAND", "see footprint --help"),
    (["predicct"], "argument COMMAND: invalid choice: 'predicct'", "predict"),
    (["predict"], "the following arguments are required: --regime", "see footprint predict --help"),
    (["predict", "--regime", "lora"], "one of the arguments --model --model-json --hf-config is required", "--help"),
    (["predict", "--model", "minigpt-3m"], "the following arguments are required: --regime", "--help"),
    ([*RUN, "--bacth", "4"], "unrecognized arguments: --bacth 4", "see footprint predict --help"),
    ([*RUN, "--batch"], "argument --batch: expected one argument", "--help"),
    ([*RUN, "--gpu", "24GiB"], "unrecognized arguments: --gpu 24GiB", "--help"),
    ([*RUN, "two\nlines"], "unrecognized arguments: two lines", "--help"),
    ([*RUN, "--model-json", SIZES], "argument --model-json: not allowed with argument --model", "--help"),
    (["fit", "--model", "llama-7b"], "card: None is not allowed", "or give --gpu-memory"),
    (["measure", "--model", "minigpt-3m"], "the following arguments are required: --regime", "--help"),
    # models
    (lora("--model", "llama-8b"), "model: 'llama-8b' is not known (did you mean", "llama-70b"),
    (lora("--model", "bert"), "model: 'bert' is not known; use one of minigpt-85m", "llama-7b"),
    (lora("--model", ""), "model: '' is not known", "minigpt-3m"),
    (lora("--model-json", "{"), "model-json: not JSON", '{"layers": 2'),
    (
        lora("--model-json", '{"layers": 2, "layers": 3}'),
        "model-json: not JSON (the key 'layers' stands in it twice)",
        "",
    ),
    (["predict", "--model", "minigpt-3m", "--regime", "full", "--rank", "junk"], "rank: 'junk'", "from 0 to 65536"),
    (
        ["predict", "--model", "minigpt-3m", "--regime", "full", "--targets", "junk"],
        "targets: 'junk'",
        "or Linears joined by +",
    ),
    ([*RUN, "--quantization", "int3"], "quantization: 'int3' is not allowed", "nf4, nf4-double, none"),
    ([*RUN, "--device", ""], "argument --device: '' is not allowed", "--help"),
    (lora("--model-json", "[" * 9999), "model-json: not JSON", '{"layers": 2'),
    (lora("--model-json", "3"), "models.custom: 3 is not allowed", "layers, width"),
    (lora("--model-json", '{"layers": 2}'), "models.custom.width: is missing", "required"),
    (
        ["predict", "--model-json", SIZES.replace("heads", "haeds"), "--regime", "full"],
        "models.custom.haeds: unknown key (did you mean heads?)",
        "kv_heads",
    ),
    (
        ["predict", "--model-json", SIZES.replace('"heads": 4', '"heads": 5'), "--regime", "full"],
        "models.custom.heads: 5 is not allowed",
        "divisor",
    ),
    # axes
    ([*RUN, "--regime", "dora"], "regime: 'dora' is not allowed", "one of full, lora, qlora"),
    ([*RUN, "--rank", "eight"], "rank: 'eight' is not allowed", "a whole number from 1 to 65536"),
    ([*RUN, "--rank", "0"], "rank: 0 is not allowed", "a whole number from 1 to 65536"),
    ([*RUN, "--rank", "257"], "rank: 257 is not allowed", "at most 256, the narrowest adapted Linear of minigpt-3m"),
    ([*RUN, "--targets", "mlp"], "targets: 'mlp' is not allowed", "one of all-linear, attention, qv"),
    ([*RUN, "--checkpointing", "all"], "checkpointing: 'all' is not allowed", "one of none, block, sqrt"),
    ([*RUN, "--precision", "fp8"], "precision: 'fp8' is not allowed", "one of mixed, amp, bf16, fp32"),
    ([*RUN, "--optimizer", "sgd"], "optimizer: 'sgd' is not allowed", "one of adamw, adamw-fused"),
    ([*RUN, "--optimizer", "adamw-8bit"], "optimizer: 'adamw-8bit' is not allowed", "device: cuda"),
    (
        ["predict", "--model", "minigpt-3m", "--regime", "qlora", "--quantization", "int4"],
        "quantization: 'int4' is not allowed",
        "one of nf4, nf4-double",
    ),
    ([*RUN, "--batch", "0"], "batch: 0 is not allowed", "a whole number from 1 to 65536"),
    ([*RUN, "--batch", "-1"], "batch: -1 is not allowed", "a whole number from 1 to 65536"),
    ([*RUN, "--batch", "２"], "batch: '２' is not allowed", "a whole number from 1 to 65536"),
    ([*RUN, "--batch", "1.5"], "batch: '1.5' is not allowed", "a whole number from 1 to 65536"),
    ([*RUN, "--batch", "9" * 5000], "batch: '9999", "a whole number from 1 to 65536"),
    (
        [*RUN, "--seq", "257"],
        "seq: 257 is not allowed",
        "a whole number from 1 to 256, where its learned positions end",
    ),
    ([*RUN, "--seq", ""], "seq: '' is not allowed", "a whole number from 1 to 256"),
    ([*RUN, "--device", "tpu"], "device: 'tpu' is not allowed", "one of cpu, cuda"),
    ([*FIT, "--regime", "full,dora"], "regime: 'dora' is not allowed", "one of full, lora, qlora"),
    ([*FIT, "--seq", "1024,"], "seq: '' is not allowed", "a whole number from 1 to 16777216"),
    (
        ["fit", "--model", "gpt2-124m", "--gpu-memory", "24", "--seq", "8192"],
        "seq: 8192 is not allowed",
        "a whole number from 1 to 1024",
    ),
    ([*FIT, "--batch", "none"], "batch: 'none' is not allowed", "a whole number from 1 to 65536"),
    ([*FIT, "--targets", "qv,mlp"], "targets: 'mlp' is not allowed", "gate_proj, up_proj, down_proj"),
    ([*FIT, "--device", "tpu"], "device: 'tpu' is not allowed", "one of cpu, cuda"),
    # the card
    ([*RUN, "--gpu-memory", "24GX"], "gpu-memory: '24GX' is not an amount of memory", "KiB, MiB, GiB"),
    ([*RUN, "--gpu-memory", "24564"], "gpu-memory: '24564' is ambiguous (MiB or bytes)", "for example 24564MiB"),
    ([*RUN, "--gpu-memory", "lots"], "gpu-memory: 'lots' is not an amount of memory", "24GiB"),
    ([*RUN, "--gpu-memory", "0"], "gpu-memory: '0' must be more than 0 bytes", "24GiB"),
    ([*RUN, "--gpu-memory", "-5GiB"], "argument --gpu-memory: expected one argument", "--help"),
    (["fit", "--model", "llama-7b", "--gpu-memory", "24 gigs"], "gpu-memory: '24 gigs' is not an amount", "24GiB"),
    # the config
    ([*RUN, "--config", "absent.yaml"], "absent.yaml: cannot be read as a config file", "No such file"),
    ([*RUN, "--config", "."], ".: cannot be read as a config file", "directory"),
]


@pytest.mark.parametrize(("arguments", "begins", "says"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_status_two(said, monkeypatch, tmp_path, arguments, begins, says):
    monkeypatch.chdir(tmp_path)
    status, out, err = said(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {begins}")
    assert says in err
    assert err.count("\n") == 1
    assert len(err) < 700
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("models: {a b: {}}", "models: 'a b' is not allowed"),
        ("models: {tiny: {layers: 2}}", "models.tiny.width: is missing"),
        ("models: []", "models: [] is not allowed"),
        ("training: {threads: 0}", "training.threads: 0 is not allowed"),
        ("device: tpu", "device: 'tpu' is not allowed"),
        ("modles: {}", "modles: unknown key (did you mean models?)"),
        ("- 1", "mine.yaml: holds no keys"),
        ("a: [", "mine.yaml: line 2, column 1"),
    ],
)
def test_a_mistake_in_the_config_is_one_sentence_too(said, monkeypatch, tmp_path, text, begins):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(f"{text}\n")
    status, out, err = said(*RUN, "--config", "mine.yaml")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {begins}")


def test_measuring_on_a_gpu_that_is_not_there_is_a_sentence(said):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    status, _, err = said("measure", "--model", "minigpt-3m", "--regime", "full", "--device", "cuda")
    assert status == 2
    assert err.startswith("error: device: cuda is not usable here")


def test_the_example_of_the_contract_answers_in_bytes_of_that_card(answered):
    _, answer = answered(*PREDICT, "--gpu-memory", "24GiB")
    assert answer["gpu_memory_bytes"] == parse_bytes("24GiB")
