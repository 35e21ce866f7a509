// What the tests share. They need the model `base`: ECHO_TEST_STORE names the folder it is in.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

import { Transcriber } from "../lib/index.mjs";

export const cache = process.env.ECHO_TEST_STORE;
export const skip = cache ? false : "set ECHO_TEST_STORE to a model folder that holds `base`";
export const dialogue = fileURLToPath(new URL("../../examples/media/dialogue.opus", import.meta.url));
export const root = fileURLToPath(new URL("..", import.meta.url));

let loading;

/** A transcriber on real weights, which the tests of a file share. */
export const transcriber = () =>
  (loading ??= Transcriber.load({ model: "base", cache, offline: true, device: "cpu" }));

/** Runs a program of its own; its exit code, its output, and how long it took. */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(command, args, { cwd: root, ...options });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (data) => (stdout += data));
    child.stderr.on("data", (data) => (stderr += data));
    child.on("error", reject);
    child.on("close", (code, signal) =>
      resolve({ code, signal, stdout, stderr, duration: performance.now() - started }),
    );
  });
}
