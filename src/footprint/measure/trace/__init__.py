"""The allocator's events, as the CPU's profiler and CUDA's caching allocator report them, and what they add up to."""
