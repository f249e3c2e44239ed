"""The text that the project grew from, on trial: its claims, its table, its drill problems."""
