// A stand-in for Trigger.dev and Modal on the loopback address, and the real task in a run of its own.
import { createServer } from "node:http";
import { runInMockTaskContext } from "@trigger.dev/core/v3/test";
import { StandardResourceCatalog } from "@trigger.dev/core/v3/workers";
import { resourceCatalog } from "@trigger.dev/core/v3";

resourceCatalog.setGlobalResourceCatalog(new StandardResourceCatalog());
resourceCatalog.setCurrentFileContext("src/transcribe.ts", "src/transcribe.ts");

/** A server of `handle(method, path, body, headers)`, which returns `[status, json]`. */
export async function listen(handle) {
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const [status, json] = await handle(request.method, request.url, text ? JSON.parse(text) : null, request.headers, text);
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(json ?? {}));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** Trigger.dev as a task sees it: tokens, and who waits for them. */
export async function triggerStub() {
  const tokens = new Map();
  const waiting = new Map();
  const seen = [];
  const stub = await listen(async (method, path, body) => {
    seen.push(`${method} ${path}`);
    if (method === "POST" && path === "/api/v1/waitpoints/tokens") {
      const id = `waitpoint_${body.idempotencyKey.replaceAll(/\W/g, "_")}`;
      const isCached = tokens.has(id);
      if (!isCached) tokens.set(id, body);
      return [200, { id, isCached, url: `${stub.url}/complete/${id}`, publicAccessToken: "public" }];
    }
    if (method === "POST" && path.startsWith("/complete/")) {
      const id = path.split("/").pop();
      settle(id, { ok: true, output: JSON.stringify(body), outputType: "application/json" });
      return [200, { success: true }];
    }
    if (method === "POST" && /^\/engine\/v1\/runs\/[^/]+\/waitpoints\/tokens\/[^/]+\/wait$/.test(path)) {
      return [200, { success: true }];
    }
    return [404, { error: `${method} ${path}` }];
  });
  const results = new Map();
  const settle = (id, result) => {
    results.set(id, result);
    waiting.get(id)?.(result);
  };
  const runtimeManager = {
    disable() {},
    waitForTask: () => Promise.reject(new Error("no task is waited for")),
    waitForBatch: () => Promise.reject(new Error("no batch is waited for")),
    waitForWaitpoint: ({ waitpointFriendlyId: id }) =>
      new Promise((resolve) => (results.has(id) ? resolve(results.get(id)) : waiting.set(id, resolve))),
  };
  return { ...stub, tokens, seen, settle, runtimeManager };
}

/** Runs the real task as Trigger.dev would, with its retries and hooks; its output, or the last error. */
export async function runTask(stub, job, runId = "run_1") {
  process.env.TRIGGER_API_URL = stub.url;
  process.env.TRIGGER_SECRET_KEY = "tr_dev_test";
  await import("../dist/src/transcribe.js");
  const task = resourceCatalog.getTask("echo-transcribe");
  const attempts = [];
  for (let number = 1; number <= 3; number += 1) {
    const parameters = { ctx: { run: { id: runId }, attempt: { number } }, runtimeManager: stub.runtimeManager };
    try {
      const output = await runInMockTaskContext(
        ({ ctx }) => task.fns.run(job, { ctx, signal: new AbortController().signal }),
        parameters,
      );
      return { output, attempts: number };
    } catch (error) {
      attempts.push(error);
      if (error.name === "AbortTaskRunError") break;
    }
  }
  return { error: attempts.at(-1), attempts: attempts.length };
}
