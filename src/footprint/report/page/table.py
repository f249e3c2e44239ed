"""A table of the report: what is shown, the numbers behind it as CSV, and its HTML. Everything shown is escaped."""

import base64
import gzip
from dataclasses import dataclass
from itertools import groupby

import pandas as pd
from markupsafe import Markup, escape

LARGEST_PLAIN = 500_000
"""Bytes of CSV beyond which a download link carries them compressed."""

MOST_BESIDE = 4
"""Columns of figures for which a phone has room beside each other."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table says and the numbers it says it from."""

    shown: pd.DataFrame
    """Cells as text; Markup is inserted as it is, anything else escaped."""
    raw: pd.DataFrame
    """The same rows as numbers (bytes, ratios, seconds), for the reader who wants to go on from there."""
    words: tuple[str, ...] = ()
    """Columns of names, set flush left; all others hold figures, set flush right."""
    prose: tuple[str, ...] = ()
    """Columns of sentences, set flush left and wrapped."""
    grouped: bool = False
    """Whether equal neighbours in the first column are one cell."""
    marked: tuple[str, ...] = ()
    """One CSS class per row, or nothing."""

    @property
    def stacks(self) -> bool:
        """Whether a phone has no room for the columns beside each other, so that a row's cells stand in a block."""
        return len(self.shown.columns) > MOST_BESIDE or bool(self.prose)

    def html(self) -> Markup:
        """The `<table>` element."""
        heads = Markup("").join(
            Markup("<th scope='col'{}>{}</th>").format(self._aligned(name), name) for name in self.shown.columns
        )
        body = Markup("\n").join(self._rows())
        return Markup("<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>").format(heads, body)

    def _aligned(self, name: str) -> Markup:
        kind = "words" if name in self.words else "prose" if name in self.prose else ""
        return Markup(" class='{}'").format(kind) if kind else Markup("")

    def _named(self, name: str) -> Markup:
        """The attributes of a cell; of one that may stand in a block also its column, which is then written there."""
        return self._aligned(name) + (Markup(" data-head='{}'").format(name) if self.stacks else Markup(""))

    def _rows(self) -> list[Markup]:
        first, *others = self.shown.columns
        rows = []
        for spans, (_, row) in zip(self._spans(), self.shown.iterrows(), strict=True):
            mark = self.marked[len(rows)] if self.marked else ""
            cells = [Markup("<td{}>{}</td>").format(self._named(name), row[name]) for name in others]
            if spans:
                span = Markup(" rowspan='{}'").format(spans) if spans > 1 else Markup("")
                cells.insert(0, Markup("<th scope='row'{}>{}</th>").format(span, row[first]))
            opening = Markup("<tr class='{}'>").format(mark) if mark else Markup("<tr>")
            rows.append(opening + Markup("").join(cells) + Markup("</tr>"))
        return rows

    def _spans(self) -> list[int]:
        """Rows each first cell covers; 0 where the cell above covers this row too."""
        if not self.grouped:
            return [1] * len(self.shown)
        lengths = [len(list(group)) for _, group in groupby(self.shown.iloc[:, 0])]
        return [span for length in lengths for span in (length, *[0] * (length - 1))]

    def csv_link(self, name: str) -> Markup:
        """A link that saves `raw` as `<name>.csv` without asking any server."""
        return csv_link(self.raw, name)


def telling(shown: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The cells without those of these columns that say the same nothing in every row: a sentence says it once."""
    empty = [name for name in columns if name in shown and set(shown[name]) <= {"0 %", "0 B", "–"}]
    return shown.drop(columns=empty)


def csv_link(frame: pd.DataFrame, name: str) -> Markup:
    """A link whose target is the frame itself, as CSV; compressed where the page would become slow to open."""
    content, kind, file = frame.to_csv(index=False, lineterminator="\n").encode(), "text/csv", f"{name}.csv"
    if len(content) > LARGEST_PLAIN:
        content, kind, file = gzip.compress(content, mtime=0), "application/gzip", f"{file}.gz"
    data = base64.b64encode(content).decode()
    return Markup("<a class='csv' download='{0}' href='data:{1};base64,{2}'>{0}</a>").format(file, kind, data)


def stacked(*lines: object) -> Markup:
    """Lines of one cell under each other, each escaped."""
    return Markup("<br>").join(escape(line) for line in lines)
