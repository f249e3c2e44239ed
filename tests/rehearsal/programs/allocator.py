"""Allocations whose bytes follow from the caching allocator's documented rules."""

import torch

MiB = 2**20


def take(size):
    return torch.empty(size, dtype=torch.uint8, device="cuda")


small = take(100)  # rounded up to 512, in a segment of 2 MiB for small blocks
middle = take(3 * MiB)  # in a segment of 20 MiB, which is split
fitting = take(11 * MiB)  # in the rest of it
large = take(
    17 * MiB + 1
)  # a segment of its own, rounded up to 18 MiB; less than 1 MiB would remain, so it is not split
print(torch.cuda.memory_allocated(), torch.cuda.memory_reserved(), *torch.cuda.mem_get_info())
