"""A matplotlib figure as SVG that lives in a page: themed by CSS variables, readable text, alternative text."""

import html
import io
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from footprint.report.page.words import typeset

STYLE = "footprint.report.page.footprint"
"""matplotlib's name for `footprint.mplstyle` of this package."""

WIDE, NARROW = 7.2, 3.9
"""Widths in inches: a page's column, and a phone, where text of the same size must still be readable."""

TITLE_POINTS = 11
"""`figure.titlesize` of the style file, from which the room for title and key is reckoned."""

LINE_INCHES = TITLE_POINTS * 1.2 / 72
"""Height of one line of the title, or of the key."""

PALETTE = {
    "ink": "#1c2026",
    "muted": "#5b6470",
    "rule": "#d8dce2",
    "paper": "#ffffff",
    "weights": "#26325f",
    "gradients": "#b5482a",
    "optimizer": "#3f9a9b",
    "activations": "#f0c36d",
    "full": "#4d5661",
    "lora": "#2c6fb3",
    "qlora": "#b8407f",
}
"""Colours by role on a light page; the page's CSS holds the dark values. In grey the buckets step evenly to light."""


@dataclass(frozen=True)
class Drawing:
    """A figure before it has a width: what it finds, what it shows in words, and how to draw it."""

    finding: str
    """The title: one sentence computed from the data."""
    alt: str
    """What a reader who cannot see the figure needs to know."""
    draw: Callable[[float], Figure]
    """From a width in inches to the figure; its height is to leave out title and key."""
    key: tuple[Artist, ...] = ()
    """What the colours and marks stand for, where labels in the figure do not say it."""

    def figure(self, width: float = WIDE) -> Figure:
        """The figure in the house style: title over key over what `draw` draws."""
        with matplotlib.style.context(STYLE):
            figure = self.draw(width)
            title = _wrapped(self.finding, width)
            columns = len(self.key) if width > NARROW else 3
            key_rows = -(-len(self.key) // columns) if self.key else 0
            title_rows = title.count("\n") + 1
            figure.set_figheight(figure.get_figheight() + (title_rows + key_rows) * LINE_INCHES)
            # The key lies on blank lines of the title, so that the layout leaves room for it over the whole width.
            figure.suptitle(title + key_rows * "\n", x=0, ha="left")
            if self.key:
                top = 1 - (0.1 + title_rows * LINE_INCHES) / figure.get_figheight()
                key = figure.legend(handles=self.key, ncols=columns, loc="upper left", bbox_to_anchor=(0, top))
                key.set_in_layout(False)
        return figure

    def svg(self, name: str, width: float = WIDE) -> str:
        """One inline `<svg>` element whose ids start with `name`."""
        buffer = io.StringIO()
        self._write(buffer, width)
        return inline(buffer.getvalue(), name=name, title=self.finding, alt=self.alt)

    def save(self, path: Path) -> None:
        """The figure as an SVG document of its own: on white, since nothing around it has a theme."""
        with path.open("w", encoding="utf-8") as file:
            self._write(file, WIDE, facecolor="white")

    def _write(self, file: TextIO, width: float, **style: str) -> None:
        figure = self.figure(width)
        with matplotlib.style.context(STYLE):
            figure.savefig(file, format="svg", metadata={"Date": None}, **style)


def _wrapped(text: str, width: float) -> str:
    """Lines short enough for bold text in DejaVu Sans, whose average character is 0.63 em wide."""
    return "\n".join(textwrap.wrap(typeset(text), int(width * 72 / (TITLE_POINTS * 0.63)), break_long_words=True))


def tell(artist: Artist, text: str) -> None:
    """Let a part of a figure say its numbers, and which run they are of, to who points at it."""
    artist.set_gid(_TELLS + text.encode().hex())


_TELLS = "tells-"


def inline(svg: str, *, name: str, title: str, alt: str) -> str:
    """matplotlib's SVG document as an element for a page, scaled by CSS.

    Without prolog and metadata; ids kept only where something refers to them and made unique by `name`; coordinates
    to a hundredth of a point; palette colours as CSS variables with the light value as fallback; the page's font.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*\n\s*", " ", body).strip()
    body = body.replace("xlink:href=", "href=")
    body = re.sub(
        rf' id="{_TELLS}([0-9a-f]+)">',
        lambda match: f' class="tells"><title>{html.escape(bytes.fromhex(match[1]).decode())}</title>',
        body,
    )
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", body)
    body = re.sub(r" font-family: 'DejaVu Sans'[^;\"]*;", "", body)
    body = re.sub(r' d="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), body)
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    for role, colour in PALETTE.items():
        body = body.replace(colour, f"var(--{role}, {colour})")
    box = re.search(r'viewBox="[^"]+"', body)[0]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" role="img"'
    opening = f'{head} aria-label="{html.escape(alt)}"><title>{html.escape(title)}</title>'
    return opening + body[body.index(">") + 1 :]
