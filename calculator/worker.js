// Python in a thread of its own: it answers the latest question part by part and drops what is asked no longer.

import { loadPyodide } from "./pyodide/pyodide.mjs";

const here = new URL(".", import.meta.url).href;
const QUIET = 400;  // milliseconds
const channel = new MessageChannel();
let runtime = null;
let python = null;
let latest = null;
let disturbed = () => {};
const configs = [];
let running = false;

self.onmessage = ({ data }) => {
  if (data.kind === "config") {
    python ? readConfig(data) : configs.push(data);
  } else {
    latest = data;
    disturbed();
    if (python && !running) run();
  }
};

// Python as it was when the site was built, the predictor imported.
async function start() {
  const files = ["footprint.zip", "reference.json"].map(async (name) => new Uint8Array(await (await load(name)).arrayBuffer()));
  const memory = load("memory.gz").then((response) => new Response(unpacked(response)).arrayBuffer());
  runtime = await loadPyodide({ indexURL: `${here}pyodide/`, packageBaseUrl: `${here}pyodide/`, _loadSnapshot: memory });
  const [archive, reference] = await Promise.all(files);
  runtime.FS.writeFile("/footprint.zip", archive);
  runtime.FS.writeFile("/reference.json", reference);
  python = runtime.pyimport("footprint.command.calculator.browser");
  configs.splice(0).forEach(readConfig);
  if (latest) run();
}

async function load(name) {
  const response = await plainFetch(here + name);
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
  return response;
}

const unpacked = (response) => response.body.pipeThrough(new DecompressionStream("gzip"));

// Pyodide asks for its program, which lies here compressed.
const plainFetch = self.fetch.bind(self);
self.fetch = async (resource, options) => {
  if (!String(resource.url ?? resource).endsWith("/pyodide.asm.wasm")) return plainFetch(resource, options);
  return new Response(unpacked(await load("pyodide/pyodide.asm.wasm.gz")), { headers: { "Content-Type": "application/wasm" } });
};

async function run() {
  running = true;
  while (latest) {
    const asked = latest;
    latest = null;
    const parts = python.answers(JSON.stringify(asked.state));
    try {
      for (let next = parts.next(); !next.done && !latest; next = parts.next()) {
        const answer = JSON.parse(next.value);
        postMessage({ kind: "part", number: asked.number, answer });
        await (answer.part === "nearest" ? quiet() : pause());
      }
    } catch (error) {
      postMessage({ kind: "failed", number: asked.number, why: lastLine(error) });
    }
    parts.destroy();
  }
  running = false;
}

// Whoever types asks again soon: what takes longer begins once it has been quiet.
function quiet() {
  return new Promise((resolve) => {
    disturbed = resolve;
    setTimeout(resolve, QUIET);
  });
}

// Lets a newer question in, if there is one.
function pause() {
  return new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
}

function readConfig({ number, name, content }) {
  const file = name.replace(/[^A-Za-z0-9_.-]/g, "-").replace(/^\.*/, "").slice(-100) || "config.json";
  try {
    postMessage({ kind: "config", number, ...JSON.parse(python.config_read(file, runtime.toPy(new Uint8Array(content)))) });
  } catch (error) {
    postMessage({ kind: "config", number, mistake: `This is a fault of the page itself: ${lastLine(error)}` });
  }
}

const lastLine = (error) => String(error.message ?? error).trim().split("\n").pop();

start().catch((error) => postMessage({ kind: "broken", why: lastLine(error) }));
