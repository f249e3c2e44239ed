"""Trains what is no plain tensor: sparse gradients, sequences in jagged and in nested tensors, a module made lazily."""

import torch
from torch import nn

words = nn.Embedding(1000, 64, sparse=True, device="cuda")
lazy = nn.LazyLinear(64, device="cuda")
rest = nn.Linear(64, 64, device="cuda")
sparse, dense = torch.optim.SparseAdam(words.parameters()), None
for seed in range(3):
    ids = torch.randint(0, 1000, (256,), generator=torch.Generator().manual_seed(seed)).cuda()
    hidden = lazy(words(ids))
    dense = dense or torch.optim.AdamW([*lazy.parameters(), *rest.parameters()])
    jagged = torch.nested.nested_tensor_from_jagged(hidden, torch.tensor([0, 100, 256], device="cuda"))
    nested = torch.nested.as_nested_tensor([hidden[:100], hidden[100:]])
    loss = rest(jagged).values().mean() + rest(nested).to_padded_tensor(0.0).mean()
    loss.backward()
    assert words.weight.grad.coalesce()._nnz() == len(set(ids.tolist()))
    sparse.step()
    dense.step()
    sparse.zero_grad()
    dense.zero_grad()
