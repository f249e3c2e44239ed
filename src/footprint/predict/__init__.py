"""The bytes of a run from its spec alone: the shadow program, the kernels of each device, and what fits where.

Comes in: specs. Goes out: rows of predicted bytes, timelines, verdicts against a card. Nothing here was fitted to a
measurement. Never imports PyTorch, train or measure.
"""
