"""What the notebook puts on the page, written for the program that will render it: Quarto's syntax or plain HTML."""

import html
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Markdown, display
from markupsafe import Markup, escape
from nbconvert.filters import markdown2html

from footprint.report.page import words
from footprint.report.page.empty import NoRunsError
from footprint.report.page.svg import NARROW, WIDE, Drawing
from footprint.report.page.table import Table, csv_link

TALL = 40
"""Rows beyond which a table scrolls within a box of fixed height."""

_QUANTITY = re.compile(r"[−+]?\d[\d.,]* (?:[KMGT]?i?B|%)(?!\w)")


class Page:
    """Figures, tables, notes and references; the same content for either renderer.

    `renderer` is `quarto` or `nbconvert`; `bibliography` a BibTeX file.
    """

    def __init__(self, renderer: str, bibliography: Path) -> None:
        self.quarto = renderer == "quarto"
        self._works = dict(read_bibliography(bibliography))
        self._cited: list[str] = []
        self._held: list[tuple[bool, str]] | None = None
        """What was said since a fold began, which must reach the page in one piece: (whether it is HTML, text)."""

    def say(self, *paragraphs: str) -> None:
        """Paragraphs of Markdown; names that come from a config go through `words.escape` first."""
        self._put("\n\n".join(paragraphs))

    def section(self, identifier: str, title: str, origin: str | None = None) -> None:
        """Begin a section under its plain-text title; `origin` says at its head that its figures were not measured."""
        if self.quarto:
            self._put(f"## {words.escape(title)} {{#{identifier}}}")
        else:
            self._html(Markup('<h2 id="{}">{}</h2>').format(identifier, title))
        if origin:
            self._html(Markup('<p class="origin">{}</p>').format(origin))

    @contextmanager
    def fold(self, title: str) -> Iterator[None]:
        """What the block says, folded away under its plain-text title; nothing where it says nothing."""
        self._held = []
        try:
            yield
        finally:
            parts, self._held = self._held, None
        if parts:
            summary = Markup("<details class='fold'><summary>{}</summary>").format(title)
            if self.quarto:
                inner = [text for _, text in parts]
                self._put("\n\n".join([_raw(summary), *inner, _raw("</details>")]))
            else:
                inner = [text if is_html else _rendered(text) for is_html, text in parts]
                self._put("\n".join([summary, *inner, "</details>"]), is_html=True)

    def facts(self, *facts: str) -> None:
        """One quiet line of HTML facts under the title."""
        self._html(Markup(f'<p class="facts">{" · ".join(facts)}</p>'))

    def block(self, content: Markup) -> None:
        """HTML of a section's own, of elements that either page has styles for."""
        self._html(content)

    def answer(self, sentences: list[str]) -> None:
        """The report's findings in plain text, set large, sizes and percentages in bold."""
        strong = (_QUANTITY.sub(r"<strong>\g<0></strong>", str(escape(sentence))) for sentence in sentences)
        self._html(f"<ul class='answer'><li>{'</li><li>'.join(strong)}</li></ul>")

    def figure(self, name: str, drawing: Drawing, caption: str, data: pd.DataFrame | None = None) -> None:
        """A figure with the id `fig-<name>`, drawn for the column and for a phone; the page's CSS shows one of them.

        `data` is what was drawn, for a figure that no table stands beside.
        """
        sizes = (("wide", WIDE), ("narrow", NARROW))
        parts = (f'<div class="{size}">{drawing.svg(f"{name}-{size}", width)}</div>' for size, width in sizes)
        link = Markup("") if data is None else Markup("<p class='download'>{}</p>").format(csv_link(data, name))
        self._float(f"fig-{name}", Markup(f'<div class="drawing">{"".join(parts)}</div>') + link, caption)

    def table(self, name: str, table: Table, caption: str) -> None:
        """A table with the id `tbl-<name>`, with its CSV, in a box that scrolls by itself."""
        tall = " tall" if len(table.shown) > TALL else ""
        stacks = " stacks" if table.stacks else ""
        box = Markup("<div class='scroll{}' tabindex='0' role='region' aria-label='{}'>{}</div>")
        link = Markup("<p class='download'>{}</p>").format(table.csv_link(name))
        self._float(f"tbl-{name}", box.format(tall + stacks, Markup(caption).striptags(), table.html()) + link, caption)

    def note(self, title: str, text: str) -> None:
        """A remark set apart: `title` is plain text, `text` one paragraph of inline HTML."""
        if self.quarto:
            self.say(f'::: {{.callout-note title="{html.escape(title)}"}}\n\n{text}\n\n:::')
        else:
            self._html(f'<aside class="note"><p class="note-title">{escape(title)}</p><p>{text}</p></aside>')

    def see(self, name: str) -> str:
        """A numbered reference to the figure or table with this id (`fig-...` or `tbl-...`)."""
        return f"@{name}" if self.quarto else f'<a class="ref" href="#{name}"></a>'

    def cite(self, key: str) -> str:
        """A reference to a work of the bibliography."""
        if key not in self._cited:
            self._cited.append(key)
        work = self._works[key]
        return f"[@{key}]" if self.quarto else f'(<a href="#ref-{key}">{short_name(work)}</a>)'

    def downloads(self, directory: Path, names: tuple[str, ...]) -> None:
        """Links that save the tables in `directory` the page was made from."""
        links = (
            csv_link(pd.read_csv(directory / f"{name}.csv", dtype=str, keep_default_na=False), name) for name in names
        )
        self._html(f"<p class='download'>The tables this page was made from: {' '.join(links)}</p>")

    def definitions(self, entries: Mapping[str, str]) -> None:
        """What words mean; both are plain text."""
        items = Markup("").join(Markup("<dt>{}</dt><dd>{}</dd>").format(word, says) for word, says in entries.items())
        self._html(Markup("<dl class='definitions'>{}</dl>").format(items))

    def preformatted(self, text: str) -> None:
        """Text as it is typed, such as a configuration."""
        self._html(Markup("<pre class='config'>{}</pre>").format(text))

    def script(self, source: Path) -> None:
        """The page's script; without it the page says the same."""
        self._html(f"<script>\n{source.read_text(encoding='utf-8')}</script>")

    def references(self) -> None:
        """The list of the works cited so far."""
        if self.quarto:
            self.say("::: {#refs}\n:::")
            return
        items = (f'<li id="ref-{key}">{full_name(self._works[key])}</li>' for key in sorted(self._cited))
        self._html(f"<ul class='references'>{''.join(items)}</ul>")

    @contextmanager
    def unless_empty(self) -> Iterator[None]:
        """What a block cannot show for want of runs is said in one sentence instead."""
        try:
            yield
        except NoRunsError as nothing:
            self.say(str(nothing))

    def _html(self, content: str) -> None:
        if self.quarto:
            self._put(_raw(content))
        else:
            self._put(content, is_html=True)

    def _float(self, identifier: str, content: Markup, caption: str) -> None:
        if self.quarto:
            self._put(f"::: {{#{identifier}}}\n\n{_raw(content)}\n\n{caption}\n\n:::")
        else:
            self._html(f'<figure id="{identifier}">{content}<figcaption>{caption}</figcaption></figure>')

    def _put(self, text: str, *, is_html: bool = False) -> None:
        """The one way onto the page: Markdown, or HTML where nbconvert renders it."""
        if self._held is None:
            display((HTML if is_html else Markdown)(words.typeset(text)))
        else:
            self._held.append((is_html, text))


def _raw(content: str) -> str:
    """HTML as a block of Quarto's Markdown."""
    return f"```{{=html}}\n{content}\n```"


def _rendered(text: str) -> str:
    """Markdown as nbconvert renders it."""
    return markdown2html(text)


def read_bibliography(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(key, fields) of each entry of a BibTeX file written one `field = {value},` a line."""
    for entry in re.split(r"^@", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        key = re.match(r"\w+\{([^,]+),", entry)[1]
        fields = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", entry, flags=re.MULTILINE)
        yield key, {name: value.replace("{", "").replace("}", "") for name, value in fields}


def short_name(work: dict[str, str]) -> str:
    """`Dettmers et al. 2023`."""
    authors = [author.split(",")[0] for author in work["author"].split(" and ")]
    names = authors[0] if len(authors) == 1 else " and ".join(authors) if len(authors) == 2 else f"{authors[0]} et al."
    return html.escape(f"{names} {work['year']}")


def full_name(work: dict[str, str]) -> str:
    """Authors, year, title with its link, where it appeared."""
    authors = "; ".join(work["author"].split(" and "))
    where = work.get("journal") or work.get("booktitle") or work.get("publisher", "")
    title = f'<a href="{html.escape(work["url"])}">{html.escape(work["title"])}</a>'
    return f"{html.escape(authors)} ({work['year']}). {title}. {html.escape(where)}."
