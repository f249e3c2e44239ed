"""Drawings titled by what they show."""
