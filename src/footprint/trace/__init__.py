"""The memory trace: what was allocated when, and to which bucket it belonged. Recorders produce it, `Trace` reads it."""
