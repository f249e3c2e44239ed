"""How a run is carried out: steps, seed, threads, the card to imitate."""

from dataclasses import dataclass

from footprint.spec.checks import one_of, whole
from footprint.spec.units import parse_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSpec:
    """How a run is carried out; nothing here names a cell of the grid."""

    warmup_steps: int = 1
    """Steps before the measured ones. At least one: optimizer state is allocated in the first step."""
    measured_steps: int = 2
    """Steps under the recorder; as many again, and more for a clock, follow without it."""
    seed: int = 0
    memory_limit: int | None = None
    """Bytes of the card to imitate; a run that needs more becomes a row with `status: oom`."""
    half: str = "bf16"
    """The half-precision type: bf16, or fp16 with loss scaling on CUDA."""
    threads: int = 2
    """CPU threads of one run; kernels' scratch memory depends on it, so it is fixed rather than detected."""

    def __post_init__(self) -> None:
        whole("training.warmup_steps", self.warmup_steps, 1, 1000)
        whole("training.measured_steps", self.measured_steps, 1, 1000)
        whole("training.seed", self.seed, 0, 2**32 - 1)
        whole("training.threads", self.threads, 1, 1024)
        one_of("training.half", self.half, ("bf16", "fp16"))
        if self.memory_limit is not None:
            object.__setattr__(self, "memory_limit", parse_bytes(self.memory_limit, "training.memory_limit"))
