"""What the kernels are told that copy gathered parameters apart and join gradients: addresses and tiles, in bytes.

Source: aten/src/ATen/native/cuda/TensorShape.cu. Each kernel copies all tensors at once, in tiles of one thread block;
a tensor of int64 says where every tensor begins and which tile is whose.
"""

from math import isqrt

from footprint.spec.cards import Card

INT64 = 8

THREADS, BYTES = 128, 16
"""Threads of a block, and what each copies at a time."""


def splitting(card: Card, ranks: int, *shards: int) -> int:
    """For a buffer of as many rows as ranks that is split into tensors with so many bytes in each row.

    A tile grows where the card has not room for all of them (split_with_sizes_copy_out_cuda_contiguous_no_cast).
    """
    tiles = sum(_up(shard, THREADS * BYTES) for shard in shards)
    most = card.multiprocessors * card.threads // THREADS * 2
    factor = _up(tiles * ranks, most)
    rows = min(isqrt(factor - 1) + 1, ranks)
    tiles = sum(_up(shard, THREADS * BYTES * _up(factor, rows)) for shard in shards)
    return INT64 * (4 * len(shards) + 1 + tiles)


def joining(*shards: int) -> int:
    """For tensors that are cut into shards of so many bytes and joined shard by shard (get_chunk_cat_metadata)."""
    tiles = sum(_up(shard, THREADS * BYTES) for shard in shards)
    return INT64 * (6 * len(shards) + 2 + tiles)


def _up(number: int, step: int) -> int:
    return -(-number // step)
