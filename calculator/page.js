// The form, the address bar, and the worker that answers. The state is what stands in the form, by the names of options.
"use strict";

const WORKER = new URL("worker.js", document.currentScript.src).href;

const form = at("question");
const SLOW = 1500;  // milliseconds
const ON_A_COMMAND_LINE = "On a command line, `footprint predict` gives the same answer.";

let number = 0;
let markdown = "";
let worker = null;
let answered = false;
let slow = 0;
let typing = false;
let preset = null;

function state() {
  const told = {};
  const custom = form.elements.model.value === "custom";
  for (const field of form.querySelectorAll("[name]")) {
    const value = field.value.trim();
    if (value && (custom || !field.closest("#sizes"))) told[field.name] = value;
  }
  return told;
}

function fill(told) {
  for (const field of form.querySelectorAll("[name]")) {
    field.querySelector("[data-added]")?.remove();
    field.value = told[field.name] ?? field.dataset.untold ?? "";
    if (field.tagName === "SELECT" && field.selectedIndex < 0) {
      const added = new Option(told[field.name], told[field.name], false, true);  // whatever a link says is asked
      added.dataset.added = "";
      field.append(added);
    }
  }
  tidy();
}

// What does not apply is out of the way. Sizes of one's own begin with those of the model that was there before.
function tidy() {
  const { model, regime, gpus, layers } = form.elements;
  const { sizes } = model.selectedOptions[0].dataset;
  if (sizes) preset = JSON.parse(sizes);
  if (model.value === "custom" && !layers.value) {
    for (const [name, size] of Object.entries(preset ?? {})) form.elements[name].value = size;
  }
  at("sizes").hidden = model.value !== "custom";
  form.elements.sharding.disabled = ["", "1"].includes(gpus.value.trim());
  for (const name of ["rank", "targets"]) form.elements[name].disabled = regime.value === "full";
  form.elements.quantization.disabled = regime.value !== "qlora";
}

function ask() {
  number += 1;
  at("answer").setAttribute("aria-busy", "true");
  clearTimeout(slow);
  if (answered) slow = setTimeout(() => wait("Still computing this one; a thousand blocks take ten seconds."), SLOW);
  worker?.postMessage({ kind: "ask", number, state: state() });
}

const address = () => `#${new URLSearchParams(state())}`;

// Typing is one step back, however many letters it takes; a field that is left, or chosen in, ends it.
function changed({ type, target }) {
  at("config-mistake").hidden = true;
  follow(target.name);
  tidy();
  const there = address();
  if (there !== asked) {
    typing ? history.replaceState(null, "", there) : history.pushState(null, "", there);
    asked = there;
    ask();
  }
  typing = type === "input";
}

// What has to follow a change: a model of learned positions takes no more tokens than it has of them, and GPUs share a
// batch of as many sequences each.
function follow(name) {
  const { model, seq, gpus, batch } = form.elements;
  const { longest } = model.selectedOptions[0].dataset;
  if (name === "model" && longest && Number(seq.value) > Number(longest)) seq.value = longest;
  if (name === "gpus" && batch.value % gpus.value > 0) batch.value = Math.ceil(batch.value / gpus.value) * gpus.value;
}

let asked = "";
const first = state();

function restored() {
  const told = [...new URLSearchParams(location.hash.slice(1))].filter(([name]) => form.elements.namedItem(name)?.name);
  if (!told.length && location.hash && asked) return;  // a place on this page, and no question
  fill(told.length ? Object.fromEntries(told) : first);
  asked = address();
  typing = false;
  ask();
}

function apply(change) {
  fill({ ...state(), ...change });
  history.pushState(null, "", address());
  asked = address();
  typing = false;
  ask();
  at("headline").focus();
}

function received({ data }) {
  if (data.kind === "loading") at("headline").textContent = data.at;
  if (data.kind === "broken") broken(`The calculator could not start: ${data.why}.`);
  if (data.kind === "config") configRead(data);
  if (data.number !== number) return;
  if (data.kind === "failed") draw.mistake({ sentence: `This is a fault of the page itself: ${data.why}` });
  if (data.kind === "part") {
    at("answer").removeAttribute("aria-busy");
    clearTimeout(slow);
    answered = true;
    if (data.answer.part === "prediction") markdown = data.answer.markdown;
    if (data.answer.part === "cheapest") markdown += `\n\n${data.answer.said.join("\n")}`;
    draw[data.answer.part](data.answer, apply);
  }
}

function wait(why) {
  at("loading").hidden = false;
  at("loading").textContent = why;
}

function broken(why) {
  at("headline").textContent = why;
  wait(ON_A_COMMAND_LINE);
  at("answer").removeAttribute("aria-busy");
}

// --- a dropped config.json -------------------------------------------------------------------------------------------

const LARGEST = 2 ** 21;  // twice what Python reads at most: it says what is too large

async function opened(file) {
  if (!file || !worker) return;
  const content = await file.slice(0, LARGEST).arrayBuffer();
  worker.postMessage({ kind: "config", number: 0, name: file.name, content }, [content]);
}

function configRead({ sizes, mistake }) {
  at("config-mistake").hidden = !mistake;
  at("config-mistake").textContent = mistake ?? "";
  if (sizes) {
    const kept = Object.fromEntries(Object.entries(state()).filter(([name]) => !form.elements[name].closest("#sizes")));
    fill(kept);
    apply(sizes);
  }
}

// --- copying ---------------------------------------------------------------------------------------------------------

function copies(id, text, said) {
  at(id).addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      at("copied").textContent = said;
    } catch {
      at("copied").textContent = "This browser does not allow copying.";
    }
    setTimeout(() => (at("copied").textContent = ""), 4000);
  });
}

// --- start -----------------------------------------------------------------------------------------------------------

form.addEventListener("input", changed);
form.addEventListener("change", changed);
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("popstate", restored);
at("skip").addEventListener("click", (event) => {
  event.preventDefault();  // the address holds the question
  at("headline").focus();
});
at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", (event) => {
  event.stopPropagation();
  opened(event.target.files[0]);
  event.target.value = "";
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  opened(event.dataTransfer.files[0]);
});
copies("copy-command", () => at("command").textContent, "Copied the command.");
copies("copy-markdown", () => `${markdown}\n\n${location.href}\n`, "Copied as Markdown.");
copies("copy-link", () => location.href, "Copied the link.");

if (location.protocol === "file:") {
  broken("This page has to come from a web server, for example `python -m http.server` in its folder.");
} else if (typeof WebAssembly !== "object" || typeof Worker !== "function") {
  broken("This browser has no WebAssembly, or has it switched off, and so cannot run the predictor.");
} else {
  // A worker from a blob is bound by the policy of this page; one from an address only by what the server sends.
  const code = new Blob([`import ${JSON.stringify(WORKER)};`], { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(code), { type: "module" });
  worker.onmessage = received;
  worker.onerror = (event) => broken(`The calculator could not start: ${event.message || "its program cannot be loaded"}.`);
}
restored();
