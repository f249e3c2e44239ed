"""Footprint: how much memory fine-tuning takes, measured, predicted to the byte and compared with the textbook."""

import logging

# On every import bitsandbytes warns that an optional inference kernel was not downloaded; nothing here uses it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
