// Builds the addon of this machine into this folder: `node scripts/build.mjs [--release]`.

import { execFileSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const { platform } = require("../lib/platform.cjs");

const profile = process.argv.includes("--release") ? ["--release"] : [];
const folder = fileURLToPath(new URL("..", import.meta.url));
const command = ["build", "--lib", "--message-format", "json-render-diagnostics", ...profile];
const output = execFileSync("cargo", command, {
  cwd: folder,
  encoding: "utf8",
  maxBuffer: 1 << 28,
  stdio: ["ignore", "pipe", "inherit"],
});
const artifacts = output
  .split("\n")
  .filter((line) => line.includes('"compiler-artifact"'))
  .map((line) => JSON.parse(line));
const addon = artifacts.findLast(({ target }) => target.name === "echo_node").filenames[0];
const target = `${folder}echo-asr.${platform()}.node`;
copyFileSync(addon, target);
console.log(target);
