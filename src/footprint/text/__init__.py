"""The texts that runs train on.

Comes in: a declaration of where a text is and which sha256 it has. Goes out: its bytes, split into a training and a
held-out part, cut into batches. Never imports PyTorch or any room but spec.
"""
