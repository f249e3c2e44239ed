"""Small integers and bools are real in a rehearsal: each line would fail on a card if it were wrong there."""

import torch

labels = torch.tensor([[1, -100, 3], [4, 5, -100]], device="cuda")
mask = labels != -100
hidden = torch.randn(2, 3, 8, device="cuda", requires_grad=True)

picked = hidden[mask]
assert picked.shape == (4, 8)
picked.sum().backward()
assert hidden.grad.shape == hidden.shape
assert labels[mask].tolist() == [1, 3, 4, 5]
assert torch.masked_select(labels, mask).tolist() == [1, 3, 4, 5]
assert mask.nonzero().tolist() == [[0, 0], [0, 2], [1, 0], [1, 1]]
assert (mask.sum().item(), mask.all().item(), mask.any().item()) == (4, False, True)
assert torch.unique(labels).tolist() == [-100, 1, 3, 4, 5]
assert (labels.max().item(), labels.argmax().item()) == (5, 4)
assert torch.arange(5, device="cuda").cumsum(0).tolist() == [0, 1, 3, 6, 10]
labels.masked_fill_(labels == -100, 0)
assert labels.tolist() == [[1, 0, 3], [4, 5, 0]]
labels += 1
assert labels[1].tolist() == [5, 6, 1]
values, order = torch.tensor([3, 1, 2], device="cuda").sort()
assert (values.tolist(), order.tolist()) == ([1, 2, 3], [1, 2, 0])
repeats = torch.tensor([2, 1], device="cuda")
assert torch.repeat_interleave(torch.tensor([7, 8], device="cuda"), repeats).tolist() == [7, 7, 8]

noise = [torch.rand(64, device="cuda") > 0.5 for _ in range(4)]
places = {mask.data_ptr() for mask in noise}
del noise
masks = [torch.tensor(64 * [True], device="cuda") for _ in range(4)]
assert not places.isdisjoint(mask.data_ptr() for mask in masks)
assert all(hidden.new_zeros(64)[mask].shape == (64,) for mask in masks)

rows = torch.tensor([[1, 2], [0, 2], [1, 2]], device="cuda")
found, where, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
assert (found.tolist(), where.tolist(), counts.tolist()) == ([[0, 2], [1, 2]], [1, 0, 1], [1, 2])
assert torch.unique(rows, dim=1).shape == (3, 2)
assert torch.unique_consecutive(torch.tensor([2, 2, 1, 2], device="cuda")).tolist() == [2, 1, 2]
assert torch.unique_consecutive(rows, dim=1).shape == (3, 2)
for kind in (torch.uint8, torch.int16, torch.int64):
    assert torch.bincount(torch.tensor([4, 1, 1], dtype=kind, device="cuda")).tolist() == [0, 2, 0, 0, 1]
assert torch.equal(rows, rows.clone())
assert not torch.equal(rows, rows + 1)

sparse = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 0]], torch.randn(3, device="cuda"), (2, 2), device="cuda")
assert sparse.coalesce().indices().tolist() == [[0, 1], [1, 0]]
assert sparse.clone().to_sparse_csr().col_indices().shape == (2,)
assert rows.to_sparse().values().tolist() == [1, 2, 2, 1, 2]
jagged = torch.nested.nested_tensor([torch.arange(2), torch.arange(3)], layout=torch.jagged, device="cuda")
assert [part.tolist() for part in jagged.unbind()] == [[0, 1], [0, 1, 2]]
print("all real")
