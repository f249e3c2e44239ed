"""Which rows a part of the report is about: selected, paired, summed up over seeds, or predicted for cards."""
