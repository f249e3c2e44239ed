// What the page shows of each part of an answer. All numbers and sentences come from Python.
"use strict";

const BUCKETS = ["weights", "gradients", "optimizer", "activations"];
const PHASES = ["forward", "backward", "step"];
// A card's memory is drawn beside a peak unless it is more than so many times as large.
const MOST_MEMORY = 4;
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);

function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function table(caption, heads, rows) {
  const cell = (text, column) => (column === 0 ? made("th", { scope: "row" }, text) : made("td", {}, text));
  const whole = made(
    "table",
    {},
    made("caption", { class: "hidden" }, caption),
    made("thead", {}, made("tr", {}, ...heads.map((head) => (head ? made("th", { scope: "col" }, head) : made("td", {}))))),
    made("tbody", {}, ...rows.map((row) => made("tr", {}, ...row.map(cell)))),
  );
  return made("div", { class: "scroll" }, whole);
}

const percent = (share) => `${(100 * share).toFixed(4)}%`;

// A bar of some parts, each a share of the longest thing that is drawn; what it says is in the table beside it.
// A mark stands where the card ends.
function bar(parts, label, mark = null) {
  const drawn = parts.map(([kind, share]) => {
    const part = made("span", { class: kind });
    part.style.width = percent(share);
    return part;
  });
  if (mark !== null) {
    const end = made("span", { class: "end" });
    end.style.left = percent(mark);
    drawn.push(end);
  }
  return made("div", { class: "bar-line", "aria-hidden": "true" }, made("div", { class: "bar" }, ...drawn), made("span", {}, label));
}

const PLACES = ["cheapest", "timeline", "changes", "cards"];
let unfolded = false;

const draw = {
  prediction(part) {
    at("loading").hidden = true;
    at("mistake").hidden = true;
    at("parts").hidden = false;
    at("headline").className = part.fits === null ? "" : part.fits ? "fits" : "exceeds";
    at("headline").replaceChildren(
      made("strong", {}, part.peak),
      ` at the peak${part.each}, in ${part.phase}. `,
      made("span", { class: "verdict" }, part.verdict),
    );
    at("run").textContent = `${part.run}; ${part.trains}.`;
    at("command").textContent = part.command;
    const heights = PLACES.map((place) => at(place).offsetHeight);
    unfolded = at("timeline").querySelector("details")?.open ?? unfolded;
    PLACES.forEach((place, i) => {
      at(place).style.minHeight = `${heights[i]}px`;  // so that what is read stays where it is
      at(place).replaceChildren();
    });
    at("cheapest").hidden = true;
    at("notes").replaceChildren(...part.notes.map((note) => made("p", {}, note)));

    const marked = part.memory_share !== null && part.memory_share < MOST_MEMORY;
    const longest = Math.max(1, part.textbook_share, marked ? part.memory_share : 0);
    const rows = part.buckets.map((row) => [made("span", { class: `key ${row[0]}` }, row[0]), ...row.slice(1)]);
    at("buckets").replaceChildren(
      bar(BUCKETS.map((name) => [name, part.shares[name] / longest]), "predicted", marked ? part.memory_share / longest : null),
      bar([["textbook", part.textbook_share / longest]], "textbook"),
      table("Buckets at the peak", ["bucket", "size", "share", "parts"], [...rows, ["total", part.peak, "", part.bytes]]),
      ...(part.on_card.length ? [table("Peaks on the card", ["peak", "size", "exactly", "what it counts"], part.on_card)] : []),
      made("p", { class: "aside" }, marked ? `The line across the bar is where the memory of the card ends: ${part.memory}. ` : "", part.textbook),
    );
    at("phases").replaceChildren(
      ...part.heights.map((share, i) => bar([[PHASES[i] === part.phase ? "peak" : "phase", share]], PHASES[i])),
      table("Highest point of each phase", ["phase", "highest", ""], part.phases),
    );
  },

  mistake(part) {
    at("loading").hidden = true;
    at("headline").className = "";
    at("headline").textContent = "No answer to this.";
    at("mistake").hidden = false;
    at("mistake").textContent = part.sentence;
    at("parts").hidden = true;
  },

  nearest({ nearest }) {
    if (nearest === null) return at("nearest").replaceChildren(made("p", {}, "There are no reference tables here."));
    const other = nearest.differs.length ? `It is another run: ${nearest.differs.join(", ")} differ.` : "It has just these settings.";
    at("nearest").replaceChildren(
      made("p", {}, `The nearest run in the reference tables is ${nearest.run}. ${other}`),
      table(
        "The nearest run in the reference tables",
        ["how it is known", "where", "peak", "predicted there", "error", "textbook"],
        nearest.rows.map((row) => [row.source, row.where, row.peak, row.predicted, row.error, nearest.textbook]),
      ),
    );
  },

  timeline(part) {
    const points = part.phases.length;
    const height = 200, width = 720;  // of the drawing; a page stretches it
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("preserveAspectRatio", "none");
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", `Live ${part.counts} of each bucket through forward, backward and step; the highest point is ${part.highest}. A table follows.`);
    const x = (i) => ((i / points) * width).toFixed(1);
    const y = (share) => (height * (1 - share)).toFixed(1);
    let below = new Array(points).fill(0);
    for (const name of BUCKETS) {
      const above = below.map((share, i) => share + part.buckets[name][i]);
      const top = above.flatMap((share, i) => [`${x(i)},${y(share)}`, `${x(i + 1)},${y(share)}`]);
      const bottom = below.flatMap((share, i) => [`${x(i)},${y(share)}`, `${x(i + 1)},${y(share)}`]).reverse();
      picture.append(shape("polygon", { points: [...top, ...bottom].join(" "), class: name }));
      below = above;
    }
    const names = PHASES.map((phase) => made("span", {}, phase));  // each phase has as many points
    const every = Math.max(1, Math.floor(points / 24));
    const rows = part.phases.flatMap((phase, i) =>
      i % every ? [] : [[phase, ...BUCKETS.map((name) => `${(100 * part.buckets[name][i]).toFixed(1)}%`)]],
    );
    at("timeline").replaceChildren(
      made("p", { class: "aside" }, `Live ${part.counts} from one allocation or release to the next, not over time. The highest point is ${part.highest}.`),
      picture,
      made("div", { class: "names", "aria-hidden": "true" }, ...names),
      made("details", unfolded ? { open: "" } : {}, made("summary", {}, "As a table"), table("Live bytes as a share of the highest point", ["phase", ...BUCKETS], rows)),
    );
  },

  cheapest(part, apply) {
    at("cheapest").hidden = false;
    at("cheapest").replaceChildren(...part.said.map((said) => made("p", {}, ...options(said))), ...applying(part.change, apply));
  },

  change(part, apply) {
    const [[axis, value]] = Object.entries(part.change);
    const body = rowsOf("changes", "What each single change would save", ["change", "saves", "peak", ""]);
    const fits = part.fits === null ? "" : part.fits ? "fits" : "does not fit";
    body.append(
      made(
        "tr",
        {},
        made("th", { scope: "row" }, made("code", {}, `--${axis} ${value}`)),
        made("td", { class: part.share > 0 ? "" : "muted" }, part.saves, saved(part.share)),
        made("td", {}, `${part.peak} `, made("span", { class: part.fits ? "good" : "muted" }, fits)),
        made("td", {}, ...applying(part.change, apply)),
      ),
    );
  },

  card(part, apply) {
    if (!at("cards").firstChild) at("cards").append(made("ul", {}));
    at("cards").firstChild.append(
      made(
        "li",
        {},
        made("span", { class: "name" }, part.name),
        made("span", { class: "muted" }, part.memory),
        made("span", {}, made("span", { class: part.fits ? "good" : "bad" }, part.fits ? "fits" : "no"), `, ${part.left}`),
        ...applying({ card: part.card, "gpu-memory": "" }, apply, part.name),
      ),
    );
  },

  working(part) {
    at("working").textContent = `Working on ${part.at} …`;
  },

  done() {
    at("working").textContent = "";
    for (const place of PLACES) at(place).style.minHeight = "";
  },
};

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// A sentence in which no option is broken.
const options = (said) =>
  said.split(/(--[a-z-]+ [^ ,;.()]+)/).map((piece, i) => (i % 2 ? made("code", { class: "whole" }, piece) : piece));

// How much of the peak a change saves.
function saved(share) {
  const line = made("span", { class: "saved", "aria-hidden": "true" });
  line.style.width = percent(Math.max(0, share));
  return line;
}

function rowsOf(id, caption, heads) {
  if (!at(id).firstChild) at(id).append(table(caption, heads, []));
  return at(id).querySelector("tbody");
}

function applying(change, apply, name = "") {
  if (!Object.keys(change).length) return [];
  const what = name || Object.entries(change).map(([axis, value]) => `${axis} ${value}`).join(", ");
  const button = made("button", { type: "button", class: "quiet", "aria-label": `take it: ${what}` }, "take it");
  button.addEventListener("click", () => apply(change));
  return [button];
}
