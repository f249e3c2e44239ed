"""PyTorch's operators as the allocator sees them: what each allocates, saves for backward and gives back.

Each function mirrors one operator of the real program and is named after it. What is saved follows PyTorch's
derivatives.yaml; temporaries follow the kernels named beside them. Sizes are bytes.
"""

from footprint.predict.operators.attention import Attention
from footprint.predict.operators.ends import Ends
from footprint.predict.operators.norms import Normed, Norms
from footprint.predict.operators.products import Products, Weight

__all__ = ["INT64", "Normed", "Operators", "Weight"]

INT64 = 8
"""Bytes of a token id."""


class Operators(Ends, Norms, Attention, Products):
    """Operators on (tokens, width) tensors of one training step; `tokens` is batch x seq."""
