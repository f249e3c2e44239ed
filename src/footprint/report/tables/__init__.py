"""Tables of the report: what is shown, and the numbers behind it."""
