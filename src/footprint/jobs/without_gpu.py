"""Imported first by the server that CPU runs are forked from: it hides the GPUs from all later imports."""

from footprint.jobs.runtime import prepare_environment

prepare_environment("cpu")
