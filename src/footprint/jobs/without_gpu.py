"""Imported first by the server that CPU runs are forked from: nothing it imports afterwards finds a GPU."""

from footprint.jobs.runtime import prepare_environment

prepare_environment("cpu")
