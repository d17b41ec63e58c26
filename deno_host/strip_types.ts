/**
 * Build tool: prints this folder's TypeScript as JavaScript, a JSON object of name to text. Deno's own type stripper does
 * it, so nothing is fetched. Why: without it each start of a sandbox would transpile the same files again.
 *
 * `deno run --allow-read=FOLDER strip_types.ts FOLDER NAME...`
 */

import { stripTypeScriptTypes } from "node:module";

const IMPORT = /(\bfrom "\.\/[\w.]+)\.ts"/g;
const [folder = ".", ...names] = Deno.args;
const scripts: Record<string, string> = {};
for (const name of names) {
  const text = stripTypeScriptTypes(Deno.readTextFileSync(`${folder}/${name}`), { mode: "transform" });
  scripts[name.replace(/\.ts$/, ".js")] = text.replaceAll(IMPORT, '$1.js"');
}
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(scripts)));
