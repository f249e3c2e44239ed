"""Tables in the Markdown of docs/."""

from collections.abc import Collection, Iterator

import pandas as pd


def table_lines(cells: pd.DataFrame, words: Collection[str]) -> Iterator[str]:
    """The lines of a table of text; the columns in `words` are set flush left, all others flush right."""
    yield f"| {' | '.join(cells.columns)} |"
    yield f"|{'|'.join('---' if name in words else '---:' for name in cells.columns)}|"
    for row in cells.itertuples(index=False):
        yield f"| {' | '.join(row)} |"
