"""Processes: a fresh one for every run, a device leased to each, and the memory of the machine they share.

Comes in: a run as JSON. Goes out: the file of its row; progress on stderr. Never imports report, command or Snakemake.
"""
