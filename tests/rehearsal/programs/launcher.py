"""Starts two processes that each use the card, as launchers do."""

import subprocess
import sys

if len(sys.argv) > 1:
    import torch

    torch.empty(int(sys.argv[1]), dtype=torch.uint8, device="cuda")
else:
    for size in (2**20, 2**30):
        subprocess.run([sys.executable, __file__, str(size)], check=True)
