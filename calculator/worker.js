// Python in a thread of its own: it answers the latest question part by part and drops what is asked no longer.

import { loadPyodide } from "./pyodide/pyodide.mjs";

const here = new URL(".", import.meta.url).href;
const channel = new MessageChannel();
let python = null;
let latest = null;
let running = false;

self.onmessage = ({ data }) => {
  if (data.kind === "config") {
    postMessage({ kind: "config", number: data.number, ...readConfig(data) });
  } else {
    latest = data;
    if (python && !running) run();
  }
};

async function start() {
  const fetched = Promise.all(["footprint.zip", "reference.json"].map(read));
  const loaded = await loadPyodide({ indexURL: `${here}pyodide/`, packageBaseUrl: `${here}pyodide/` });
  postMessage({ kind: "loading", at: "Starting the predictor …" });
  const [archive, reference] = await fetched;
  loaded.FS.writeFile("/footprint.zip", new Uint8Array(archive));
  loaded.FS.writeFile("/reference.json", new Uint8Array(reference));
  loaded.FS.mkdirTree("/published");
  loaded.runPython(`
import json, os, sys
sys.path.insert(0, "/footprint.zip")
os.chdir("/published")
from functools import partial
from pathlib import Path
from footprint.command.calculator.answer import answers
from footprint.command.calculator.question import config_read
answers = partial(answers, reference=json.loads(Path("/reference.json").read_text()))
`);
  python = loaded;
  if (latest) run();
}

async function read(name) {
  const response = await fetch(here + name);
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
  return response.arrayBuffer();
}

async function run() {
  running = true;
  while (latest) {
    const asked = latest;
    latest = null;
    const parts = python.globals.get("answers")(JSON.stringify(asked.state));
    try {
      for (let next = parts.next(); !next.done && !latest; next = parts.next()) {
        postMessage({ kind: "part", number: asked.number, answer: JSON.parse(next.value) });
        await pause();
      }
    } catch (error) {
      postMessage({ kind: "failed", number: asked.number, why: lastLine(error) });
    }
    parts.destroy();
  }
  running = false;
}

// Lets a newer question in, if there is one.
function pause() {
  return new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
}

function readConfig({ name, content }) {
  const file = name.replace(/[^A-Za-z0-9_.-]/g, "-").slice(-100);
  python.FS.writeFile(`/published/${file}`, new Uint8Array(content));
  const answer = JSON.parse(python.globals.get("config_read")(file));
  python.FS.unlink(`/published/${file}`);
  return answer;
}

const lastLine = (error) => String(error.message ?? error).trim().split("\n").pop();

start().catch((error) => postMessage({ kind: "broken", why: lastLine(error) }));
