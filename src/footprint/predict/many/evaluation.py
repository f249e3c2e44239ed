"""Values of formulas for many runs, expensive calls only where they are wanted."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from footprint.predict.formula import Call, Evaluation, Formula


class Evaluations(Evaluation):
    """The values of formulas for runs whose dimensions are known: arrays with one entry per run."""

    def prepare(self, wanted: Mapping[Formula, np.ndarray]) -> None:
        """Make the expensive calls among `wanted` for the given indices of runs only; elsewhere their value is 0."""
        runs = len(next(iter(self.known.values())))
        together: dict[tuple, list[Formula]] = defaultdict(list)
        for formula in wanted:
            if isinstance(formula, Call):
                numbers = tuple(None if isinstance(a, Formula) else a for a in formula.arguments)
                together[formula.function, numbers].append(formula)
        for (function, numbers), calls in together.items():
            at = [wanted[formula] for formula in calls]
            columns = [self._column(calls, at, i) if number is None else number for i, number in enumerate(numbers)]
            ends = np.cumsum([len(indices) for indices in at])
            for formula, indices, values in zip(calls, at, np.split(function(*columns), ends[:-1]), strict=True):
                self.known[formula] = np.zeros(runs, dtype=np.int64)
                self.known[formula][indices] = values

    def _column(self, calls: list[Formula], at: list[np.ndarray], argument: int) -> np.ndarray:
        """One argument of several calls, each at its runs, as one array."""
        return np.concatenate([self.of(f.arguments[argument])[runs] for f, runs in zip(calls, at, strict=True)])
