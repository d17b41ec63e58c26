// The baseline of tests/bench/deno.py: Pyodide as its own loader starts it, to a first result. Argument: its folder.
const [folder] = Deno.args;
const { loadPyodide } = await import(`file://${folder}/pyodide.mjs`);
const pyodide = await loadPyodide({ indexURL: `${folder}/` });
if (pyodide.runPython("1 + 1") !== 2) Deno.exit(1);
