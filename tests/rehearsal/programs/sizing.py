"""Chooses its batch by what the card has free, asked in two ways."""

import subprocess

import torch

smi = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
name, whole, unused = subprocess.run(smi, capture_output=True, text=True, check=True).stdout.strip().split(", ")
free, total = torch.cuda.mem_get_info()
print("as nvidia-smi says:", name, int(whole), int(unused))
print("as CUDA says:", torch.cuda.get_device_name(), total // 2**20, free // 2**20)
batch = torch.empty(free // 2, dtype=torch.uint8, device="cuda")
