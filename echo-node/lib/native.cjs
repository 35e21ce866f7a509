"use strict";
// Finds the addon of this machine: beside this package's sources, where a checkout builds it, or in
// the package of its platform.

const { existsSync } = require("node:fs");
const { join } = require("node:path");

const { platform } = require("./platform.cjs");

function load() {
  const name = platform();
  const built = join(__dirname, "..", `echo-asr.${name}.node`);
  if (existsSync(built)) return require(built);
  try {
    return require(`echo-asr-${name}`);
  } catch (cause) {
    const message = `echo-asr has no addon for ${name}: build one in a checkout with \`npm run build\``;
    throw new Error(message, { cause });
  }
}

module.exports = load();
