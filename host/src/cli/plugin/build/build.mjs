// Written by `pressroom plugin build`, and run in the plugin's folder: node build.mjs ENTRY OUT
import { componentize } from "@bytecodealliance/componentize-js";
import { writeFile } from "node:fs/promises";

const [entry, out] = process.argv.slice(2);
// What a plugin may reach is said by its world. `fetch`, which would import HTTP into every plugin, is left out: where a
// request is denied, the engine's event loop breaks, and the plugin with it.
const { component } = await componentize({
  sourcePath: entry,
  witPath: "wit",
  worldName: "plugin",
  disableFeatures: ["fetch-event", "http"],
});
await writeFile(out, component);
