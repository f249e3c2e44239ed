import torch

x = torch.randn(5, device="cuda")
print(x, x.sum(), torch.arange(3, device="cuda"), torch.ones(2))
