"""The third opinion agrees with PyTorch's own tracker, and with the prediction but for what kernels take within."""

import pytest
from tiny import GPT, LLAMA, TRAINING, every_precision, every_regime, mem_tracker_peak, run

from footprint.measure.third_opinion import simulate
from footprint.predict.prediction import predict
from footprint.spec.columns import PHASE_PEAKS
from footprint.spec.presets import PRESETS
from footprint.spec.run import RunSpec

NUMBER = 12
"""A Python number that the step makes a tensor: a double, and its cast to fp32."""


@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["gpt", "llama"])
@pytest.mark.parametrize("checkpointing", ["none", "sqrt"])
def test_simulation_equals_mem_tracker(model, checkpointing):
    spec = run("full", model=model, checkpointing=checkpointing)
    assert simulate(spec, TRAINING)["peak_bytes"] == mem_tracker_peak(spec)


@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["gpt", "llama"])
@pytest.mark.parametrize("checkpointing", ["none", "block", "sqrt"])
def test_full_fine_tuning_in_fp32_is_simulated_as_predicted(model, checkpointing):
    spec = run("full", model=model, checkpointing=checkpointing)
    simulated, predicted = simulate(spec, TRAINING), predict(spec)
    assert [predicted[name] - simulated[name] for name in PHASE_PEAKS] == [0, 0, NUMBER]


@every_regime
@every_precision
def test_no_kernel_gives_memory_back_that_it_did_not_take(regime, precision):
    """The simulation sees fewer bytes than the prediction, and no fewer than the step's, which runs no such kernel."""
    spec = run(regime, precision=precision, checkpointing="block")
    simulated, predicted = simulate(spec, TRAINING), predict(spec)
    assert all(simulated[name] <= predicted[name] for name in PHASE_PEAKS)
    tables = 252 if regime == "qlora" else 0  # bitsandbytes makes its NF4 tables within a kernel
    assert predicted["step_peak_bytes"] - simulated["step_peak_bytes"] in (NUMBER + tables, NUMBER - 2 + tables)


def test_seven_billion_parameters_are_simulated_as_predicted_on_no_memory_at_all():
    spec = RunSpec(model=PRESETS["llama-7b"], regime="full", precision="fp32", checkpointing="block", batch=1, seq=256)
    simulated, predicted = simulate(spec, TRAINING), predict(spec)
    assert predicted["total_parameters"] == 6_738_415_616
    assert [predicted[name] - simulated[name] for name in PHASE_PEAKS] == [0, 0, NUMBER]
