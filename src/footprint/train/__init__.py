"""The experiment itself: MiniGPT, the three regimes, the optimizers, and the one training loop.

Comes in: a spec and batches. Goes out: a trained model and what each step did. It does not know that it is measured:
recorders only listen. Never imports any room but spec.
"""
