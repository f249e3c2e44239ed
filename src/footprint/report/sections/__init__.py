"""The sections of the page: one function for each thing that the notebook shows, with its caption."""
