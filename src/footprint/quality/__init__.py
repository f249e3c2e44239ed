"""Loss and speed beside memory: a base is pretrained, then fine-tuned in earnest and validated on held-out text.

Comes in: the `quality` section of a config. Goes out: a row and a loss curve for each fine-tuning, a row for each form
a base is stored in. Never imports predict or tables.
"""
