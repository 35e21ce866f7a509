#!/usr/bin/env node
"use strict";
// The command line: the same as the Rust program `echo-asr`.

const { finished } = require("../lib/jobs.cjs");
const native = require("../lib/native.cjs");

finished(() => native.runCommand(["echo-asr", ...process.argv.slice(2)])).then(
  ({ value }) => process.exit(value),
  (error) => {
    console.error(`error: ${error.message}`);
    process.exit(1);
  },
);
