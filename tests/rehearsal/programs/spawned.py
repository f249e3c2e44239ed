"""A program that starts its ranks itself, speaks to them as programs do, and prints what it hears."""

import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as processes


def work(rank, ranks):
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method="tcp://127.0.0.1:29512", rank=rank, world_size=ranks)
    own = torch.tensor([3], device="cuda")
    total, most = own.clone(), own.clone()
    dist.all_reduce(total)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    gathered = [torch.empty_like(own) for _ in range(ranks)]
    dist.all_gather(gathered, own)
    whole = torch.empty(ranks, dtype=torch.int64, device="cuda")
    dist.all_gather_into_tensor(whole, own)
    part = torch.empty(1, dtype=torch.int64, device="cuda")
    dist.reduce_scatter_tensor(part, torch.arange(ranks, device="cuda"))
    texts = [None] * ranks
    dist.all_gather_object(texts, "x" * 100_000)
    told = [rank]
    dist.broadcast_object_list(told, src=rank)
    pair = dist.new_group([0, 1])
    dist.barrier()
    heard = [total.item(), most.item(), [one.item() for one in gathered], whole.tolist(), part.item(), told]
    print(
        "heard", rank, heard, [len(text) for text in texts], dist.get_backend(), dist.get_world_size(pair), flush=True
    )
    torch.empty(rank * 2**20, dtype=torch.uint8, device="cuda")


if __name__ == "__main__":
    ranks = int(sys.argv[1]) if len(sys.argv) > 1 else torch.cuda.device_count()
    processes.spawn(work, args=(ranks,), nprocs=ranks)
