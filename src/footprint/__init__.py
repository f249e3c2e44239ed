"""Footprint: how much memory fine-tuning takes, measured, predicted to the byte and compared with the textbook."""
