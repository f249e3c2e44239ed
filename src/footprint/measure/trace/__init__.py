"""The memory trace: what was allocated when, and which bucket it was. Recorders produce it, `Trace` reads it."""
