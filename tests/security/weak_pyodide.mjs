// Stock Pyodide under Deno with every permission: where attacks through the JavaScript realm are known to work.
// Runs by reference_sandbox.py only: deno run --allow-all weak_pyodide.mjs config.json
// Config: { pyodide: folder, report: path, probes: [{ id, code }] }. Reports { id: { text, value } } after each probe;
// the value comes from an array of the host's own, in the realm that it shares with the guest.

import { pathToFileURL } from "node:url";

const PROBE_MS = 15_000;
const config = JSON.parse(Deno.readTextFileSync(Deno.args[0]));
const { loadPyodide } = await import(pathToFileURL(`${config.pyodide}/pyodide.mjs`).href);
const seen = {};
let text = "";
const decoder = new TextDecoder();
const write = (bytes) => {
  text += decoder.decode(bytes);
  return bytes.length;
};
const pyodide = await loadPyodide({ indexURL: `${config.pyodide}/` });
pyodide.setStdout({ write });
pyodide.setStderr({ write });
// captured before a probe replaces them
const { stringify } = JSON;
const writeReport = (path, data) => Deno.writeTextFileSync(path, data);

for (const { id, code } of config.probes) {
  text = "";
  const globals = pyodide.toPy({ __name__: "__main__" });
  let timer;
  const late = new Promise((ok) => {
    timer = setTimeout(ok, PROBE_MS);
  });
  try {
    await Promise.race([pyodide.runPythonAsync(code, { globals }), late]);
  } catch (error) {
    text += `\nraised ${error}`;
  }
  clearTimeout(timer);
  seen[id] = { text, value: String([].push("honest")) };
  writeReport(config.report, stringify(seen));
}
seen.over = {};
writeReport(config.report, stringify(seen));
Deno.exit(0);
