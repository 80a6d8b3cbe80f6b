// Written by `pressroom plugin build`, and run in the plugin's folder: node build.mjs ENTRY OUT
import { componentize } from "@bytecodealliance/componentize-js";
import { readFile, writeFile } from "node:fs/promises";

const [entry, out] = process.argv.slice(2);
const world = await readFile("wit/plugin.wit", "utf8");
// What a plugin may reach is said by its world. `fetch` is the engine's own, over wasi:http.
const unused = world.includes("import wasi:http/") ? [] : ["http"];
const { component } = await componentize({
  sourcePath: entry,
  witPath: "wit",
  worldName: "plugin",
  disableFeatures: ["fetch-event", ...unused],
});
await writeFile(out, component);
