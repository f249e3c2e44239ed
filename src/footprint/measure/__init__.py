"""One run under a recorder.

Comes in: a spec and batches. Goes out: a row of bytes, attributed to buckets, and a timeline. The allocator's events
come from `trace`; `third_opinion` counts the same program's tensors from above the allocator. Never imports predict:
neither may know what the other says.
"""
