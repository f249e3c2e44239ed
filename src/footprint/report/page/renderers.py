"""The two programs that make the page from the executed notebook: Quarto, and nbconvert where Quarto is absent."""

import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import yaml
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from footprint.errors import FootprintError

RESOURCES = ("_quarto.yml", "page.css", "page.js", "dark.scss", "references.bib")
"""Files beside the notebook that Quarto reads."""


def quarto(executed: NotebookNode, source: Path, scratch: Path) -> str:
    """The page as Quarto makes it, without executing anything again.

    Quarto exits with 0 on an unresolved reference, a missing citation, a block that is not closed and a file that is
    not there, so that what it says and the page itself are searched for them. Raises ValueError for any: a fault of
    the report, not of its reader.
    """
    for name in RESOURCES:
        shutil.copy(source / name, scratch / name)
    front = f"---\n{yaml.safe_dump(front_matter(executed), allow_unicode=True, sort_keys=False)}---"
    executed.cells[:0] = [nbformat.v4.new_raw_cell(front), nbformat.v4.new_markdown_cell(_contents(executed))]
    nbformat.write(executed, scratch / "report.ipynb")
    command = ["quarto", "render", "report.ipynb", "--to", "html", "--no-execute", "--no-execute-daemon"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    pages = list(scratch.rglob("report.html"))
    if done.returncode != 0 or not pages:
        raise FootprintError(
            f"report.engine: quarto failed; use nbconvert, or mend what it says: {done.stderr.strip()}"
        )
    warned = [line.strip() for line in _COLOUR.sub("", done.stderr).splitlines() if _WARNING.match(line)]
    if warned:
        raise ValueError(f"quarto renders the page, but warns: {' '.join(warned)}")
    page = pages[0].read_text(encoding="utf-8")
    dead = re.findall(r"quarto-unresolved-ref|\?@[a-z]+-[\w-]+", page)
    if dead:
        raise ValueError(f"the page refers to figures or tables that are not on it: {sorted(set(dead))}")
    return page


def front_matter(executed: NotebookNode) -> dict[str, str]:
    """What stands in the head of the page: its title, and for machines its author, date and description."""
    told = executed.metadata
    named = {"title": told["title"], "author-meta": told.get("author"), "date-meta": told.get("date")}
    return {key: value for key, value in (named | {"description-meta": told.get("description")}).items() if value}


_WARNING = re.compile(r"\s*\[?(WARN(ING)?|ERROR)\b")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _contents(executed: NotebookNode) -> str:
    """Links to the sections for a phone, where Quarto shows none."""
    said = [
        output["data"].get("text/markdown", "")
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    headings = re.findall(r"^## (.+) \{#([\w-]+)\}$", "\n".join(said), flags=re.MULTILINE)
    # A title is escaped for Markdown by references that HTML reads as well.
    links = Markup("").join(Markup(f"<li><a href='#{name}'>{title}</a></li>") for title, name in headings)
    listed = Markup("<details class='contents-above'><summary>Contents</summary><ul>{}</ul></details>").format(links)
    return f"```{{=html}}\n{listed}\n```"


def nbconvert(executed: NotebookNode, source: Path, scratch: Path) -> str:
    """The page as nbconvert makes it with the template in `source`/nbconvert."""
    exporter = HTMLExporter(
        template_name="nbconvert",
        extra_template_basedirs=[str(source)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    styles = "\n".join((source / name).read_text(encoding="utf-8") for name in ("page.css", "nbconvert/layout.css"))
    page, _ = exporter.from_notebook_node(executed, resources={"styles": styles})
    return finished(page)


def finished(page: str) -> str:
    """What nbconvert leaves undone: the contents, numbers of figures, tables and references."""
    soup = BeautifulSoup(page, "html.parser")
    contents = soup.select_one("#contents ul")
    for heading in soup.select("main h2"):
        contents.append(_entry(soup, heading))
    names = {}
    for word, kind in (("Figure", "fig"), ("Table", "tbl")):
        for number, float_ in enumerate(soup.select(f"figure[id^={kind}-]"), start=1):
            names[float_["id"]] = f"{word} {number}"
            label = soup.new_tag("span", attrs={"class": "number"})
            label.string = f"{word} {number}. "
            float_.figcaption.insert(0, label)
    for reference in soup.select("a.ref"):
        reference.string = names[reference["href"].removeprefix("#")]
    return str(soup)


def _entry(soup: BeautifulSoup, heading: Tag) -> Tag:
    item, link = soup.new_tag("li"), soup.new_tag("a", href=f"#{heading['id']}")
    link.string = heading.get_text()
    item.append(link)
    return item
