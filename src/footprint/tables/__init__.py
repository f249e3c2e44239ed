"""Rows, tables and their agreement.

Comes in: one file per run. Goes out: the CSVs of an experiment, its manifest, and a sentence for every file that is not
what the others say. Never imports jobs, report or command.
"""
