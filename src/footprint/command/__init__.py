"""The command line: what `footprint` understands, and what it prints; in `calculator` the same on a page.

Comes in: arguments. Goes out: text or JSON, and an exit status. Nothing below imports it.
"""
