"""Findings in words, every number computed."""
