// Writes the memory of a Python that has started and imported the predictor, so that a browser need not do either.
//
// node calculator/snapshot.mjs PYODIDE ARCHIVE OUTPUT

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const [folder, archive, output] = process.argv.slice(2).map((path) => resolve(path));
const { loadPyodide } = await import(pathToFileURL(`${folder}/pyodide.mjs`));
const python = await loadPyodide({ indexURL: `${folder}/`, _makeSnapshot: true });
python.FS.writeFile("/footprint.zip", readFileSync(archive));
python.runPython(`
import gc, sys
sys.path.insert(0, "/footprint.zip")
from footprint.command.calculator import browser
browser.prepare()
gc.collect()
`);
writeFileSync(output, python.makeMemorySnapshot());
