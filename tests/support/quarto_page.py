"""Quarto's page as far as it can be built without Quarto: pandoc, and filters that do what Quarto's do to the page.

Quarto makes a float of a div with an id, a callout of one of that class, a link of a reference to a float, and two
themes of the body. Its Bootstrap is not here; its column is, as _quarto.yml sets it.
"""

import json
import re
import subprocess
from pathlib import Path

import pandoc
import yaml

FILTER = """
local names, counts = {}, {fig = 0, tbl = 0}
local words = {fig = "Figure", tbl = "Table"}

local function float(div)
  local kind = div.identifier:match("^(%a+)%-")
  counts[kind] = counts[kind] + 1
  names[div.identifier] = words[kind] .. "\\u{a0}" .. counts[kind]
  local caption = table.remove(div.content)
  table.insert(caption.content, 1, pandoc.Str(names[div.identifier] .. ": "))
  local open = '<div id="' .. div.identifier .. '" class="quarto-float quarto-figure quarto-figure-center anchored">' ..
    '<figure class="quarto-float quarto-float-' .. kind .. ' figure">'
  local blocks = pandoc.List({pandoc.RawBlock("html", open)})
  local captioned = pandoc.List({
    pandoc.RawBlock("html", '<figcaption class="quarto-float-caption quarto-float-' .. kind .. '">'),
    pandoc.Plain(caption.content), pandoc.RawBlock("html", "</figcaption>")})
  if kind == "tbl" then blocks:extend(captioned) end
  blocks:extend(div.content)
  if kind == "fig" then blocks:extend(captioned) end
  blocks:insert(pandoc.RawBlock("html", "</figure></div>"))
  return blocks
end

local function callout(div)
  local head = pandoc.Div({pandoc.Plain({pandoc.Str(div.attributes.title)})}, {class = "callout-header"})
  local body = pandoc.Div(div.content, {class = "callout-body"})
  return pandoc.Div({head, body}, {class = "callout callout-style-default callout-note"})
end

local function block(div)
  if div.identifier:match("^fig%-") or div.identifier:match("^tbl%-") then return float(div) end
  if div.classes:includes("callout-note") and div.attributes.title then return callout(div) end
end

local function reference(cite)
  local name = names[cite.citations[1].id]
  if name then return pandoc.Link(name, "#" .. cite.citations[1].id, "", {class = "quarto-xref"}) end
end

return {{Div = block}, {Cite = reference}}
"""

THEMES = """
<script>
addEventListener("DOMContentLoaded", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.body.classList.add(dark ? "quarto-dark" : "quarto-light");
});
</script>
"""


def quarto_page(kept: Path) -> Path:
    """The page of the folder in which Quarto was handed its notebook and resources; its file lies there."""
    settings = yaml.safe_load((kept / "_quarto.yml").read_text())
    html = settings["format"]["html"]
    (kept / "filter.lua").write_text(FILTER)
    (kept / "head.html").write_text(_head(kept, html))
    command = [pandoc.PROGRAM, f"--from={html['from']}", "--to=html", "--standalone", "--section-divs", "--mathml"]
    command += ["--toc", f"--toc-depth={html['toc-depth']}", "--lua-filter=filter.lua", "--citeproc"]
    command += [f"--bibliography={settings['bibliography']}", "--fail-if-warnings", "--metadata=document-css:false"]
    command += ["--include-in-header=head.html", "--output=page.html"]
    subprocess.run(command, input=_document(kept), cwd=kept, text=True, check=True)
    return kept / "page.html"


def _document(kept: Path) -> str:
    """What Quarto hands to pandoc: the front matter, then every output of every cell in a block of its own."""
    cells = json.loads((kept / "report.ipynb").read_text())["cells"]
    parts = []
    for cell in cells:
        if cell["cell_type"] in ("raw", "markdown"):
            parts.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            parts.append(f"::: {{.cell-output .cell-output-display}}\n{''.join(output['data']['text/markdown'])}\n:::")
    return "\n\n".join(parts)


def _head(kept: Path, html: dict) -> str:
    """The page's own styles over the column and the backgrounds of Quarto's two themes."""
    dark = dict(re.findall(r"\$([\w-]+): ([^;]+);", (kept / html["theme"]["dark"][1]).read_text()))
    column = html["grid"]["body-width"]
    theme = (
        f"body {{ max-width: {column}; margin: 0 auto; padding: 0 1rem; font: 1rem/1.5 system-ui; }}\n"
        "body.quarto-light { background: #ffffff; color: #343a40; }\n"
        f"body.quarto-dark {{ background: {dark['body-bg']}; color: {dark['body-color']}; }}\n"
        f"body.quarto-dark a {{ color: {dark['link-color']}; }}\n"
        "* { box-sizing: border-box; }\n"
    )
    return f"<style>{theme}{(kept / html['css']).read_text()}</style>{THEMES}"
