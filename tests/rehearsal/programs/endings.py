"""Programs that end as programs do: out of memory, surviving that, by an error of their own, by a signal."""

import os
import signal
import sys

import torch

GiB = 2**30
kept = []


def take(size):
    kept.append(torch.empty(size, dtype=torch.uint8, device="cuda"))


def out_of_memory():
    for _ in range(9):
        take(4 * GiB)


def survives():
    size = 1024 * GiB
    while not kept:
        try:
            take(size)
        except torch.OutOfMemoryError:
            size //= 2


def fails():
    take(1)
    sys.exit(7)


def killed():
    take(1)
    os.kill(os.getpid(), signal.SIGKILL)


def convolution():
    torch.nn.Conv2d(3, 8, 3).cuda()(torch.randn(1, 3, 32, 32, device="cuda"))


def unknown_shape():
    torch.nonzero(torch.randn(5, device="cuda"))


def unknown_choice():
    experts = torch.randn(6, 4, device="cuda").topk(2).indices  # as a mixture of experts routes its tokens
    torch.nonzero(experts + 1 == 2)


globals()[sys.argv[1]]()
