"""What the notebook puts on the page, written for the program that will render it: Quarto's syntax or plain HTML."""

import html
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Markdown, display
from markupsafe import Markup, escape

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
        self._held: list[str] | None = None
        """What was said since a set of tabs began, which Quarto must get in one piece."""

    def say(self, *paragraphs: str) -> None:
        """Paragraphs of Markdown; names that come from a config go through `words.escape` first."""
        text = "\n\n".join(paragraphs)
        if self._held is None:
            display(Markdown(text))
        else:
            self._held.append(text)

    @contextmanager
    def tabs(self) -> Iterator[None]:
        """Parts of a section that `tab` begins: tabs on Quarto's page, one below the other elsewhere."""
        self._held = [] if self.quarto else None
        yield
        if self._held is not None:
            parts, self._held = self._held, None
            self.say("::: {.panel-tabset}", *parts, ":::")

    def tab(self, title: str) -> None:
        """Begin a part under its plain-text title."""
        self.say(f"### {escape(title)}")
        if self._held is not None:
            self._html(Markup('<p class="tab-name">{}</p>').format(title))  # paper has no tabs to name it

    def facts(self, *facts: str) -> None:
        """One quiet line of HTML facts under the title."""
        self._html(Markup(f'<p class="facts">{" · ".join(facts)}</p>'))

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
        """A table with the id `tbl-<name>`, in a box that scrolls by itself, with its CSV."""
        tall = " tall" if len(table.shown) > TALL else ""
        box = Markup("<div class='scroll{}' tabindex='0' role='region' aria-label='{}'>{}</div>")
        link = Markup("<p class='download'>{}</p>").format(table.csv_link(name))
        self._float(f"tbl-{name}", box.format(tall, Markup(caption).striptags(), table.html()) + link, caption)

    def note(self, title: str, text: str) -> None:
        """A remark set apart: `title` is plain text, `text` one paragraph of inline HTML."""
        if self.quarto:
            self.say(f'::: {{.callout-note title="{html.escape(title)}"}}\n\n{text}\n\n:::')
        else:
            display(HTML(f'<aside class="note"><p class="note-title">{escape(title)}</p><p>{text}</p></aside>'))

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

    def glossary(self, words: Mapping[str, str]) -> None:
        """What words mean, folded away; both are plain text."""
        items = Markup("").join(Markup("<dt>{}</dt><dd>{}</dd>").format(word, says) for word, says in words.items())
        self._html(
            Markup("<details class='glossary'><summary>What the words mean</summary><dl>{}</dl></details>").format(
                items
            )
        )

    def config(self, text: str | None) -> None:
        """The experiment's configuration, folded away."""
        if text is None:
            self.say("The configuration was not kept beside the tables.")
        else:
            summary = "<summary>The configuration of this experiment</summary>"
            self._html(Markup(f"<details>{summary}<pre class='config'>{{}}</pre></details>").format(text))

    def references(self) -> None:
        """The list of the works cited so far."""
        if self.quarto:
            self.say("::: {#refs}\n:::")
            return
        items = (f'<li id="ref-{key}">{full_name(self._works[key])}</li>' for key in sorted(self._cited))
        display(HTML(f"<ul class='references'>{''.join(items)}</ul>"))

    @contextmanager
    def unless_empty(self) -> Iterator[None]:
        """What a block cannot show for want of runs is said in one sentence instead."""
        try:
            yield
        except NoRunsError as nothing:
            self.say(str(nothing))

    def _html(self, content: str) -> None:
        if self.quarto:
            self.say(f"```{{=html}}\n{content}\n```")
        else:
            display(HTML(content))

    def _float(self, identifier: str, content: Markup, caption: str) -> None:
        if self.quarto:
            self.say(f"::: {{#{identifier}}}\n\n```{{=html}}\n{content}\n```\n\n{caption}\n\n:::")
        else:
            figure = f'<figure id="{identifier}">{content}<figcaption>{caption}</figcaption></figure>'
            display(HTML(figure))


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
