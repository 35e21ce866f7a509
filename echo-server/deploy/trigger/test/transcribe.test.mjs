import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";

import { listen, runTask, triggerStub } from "./support.mjs";

const job = { v: 1, job_id: "job-1", delivery_id: "job-1:1", api_url: "" };

/** Modal's endpoint; `answer(body)` is a status, and a worker that ends at once follows a 200. */
async function modalStub(answer, ends = true) {
  const calls = [];
  const stub = await listen(async (method, path, body, headers) => {
    calls.push({ path, body, key: headers["modal-key"] });
    const status = answer();
    if (status === 200 && path === "/" && ends) {
      await fetch(body.resume_url, { method: "POST", body: JSON.stringify({ status: "completed" }) });
    }
    return [status, { call_id: "fc-1" }];
  });
  process.env.MODAL_WEBHOOK_URL = stub.url;
  process.env.MODAL_PROXY_KEY = "wk-1";
  process.env.MODAL_PROXY_SECRET = "ws-1";
  return { ...stub, calls };
}

test("a job is handed over and waited for", async (t) => {
  const [trigger, modal] = [await triggerStub(), await modalStub(() => 200)];
  t.after(() => [trigger.close(), modal.close()]);
  const { output, attempts, error } = await runTask(trigger, job);
  assert.equal(error, undefined);
  assert.deepEqual([output, attempts], [{ status: "completed" }, 1]);
  const [call] = modal.calls;
  assert.equal(call.key, "wk-1");
  assert.equal(call.body.delivery_id, "job-1:1");
  const [token] = trigger.tokens.values();
  // Ten minutes, which nobody said, would be the default.
  assert.match(JSON.stringify(token.timeout), /4h|20\d\d-/);
  assert.ok(trigger.seen.some((line) => line.endsWith("/wait")), trigger.seen.join("\n"));
});

test("what Modal refuses is not tried again", async (t) => {
  const [trigger, modal] = [await triggerStub(), await modalStub(() => 422)];
  t.after(() => [trigger.close(), modal.close()]);
  const { error, attempts } = await runTask(trigger, job);
  assert.match(error.message, /status 422/);
  assert.deepEqual([attempts, modal.calls.length], [1, 1]);
});

test("what Modal cannot take now is tried again with the same token", async (t) => {
  let count = 0;
  const [trigger, modal] = [await triggerStub(), await modalStub(() => ((count += 1) < 3 ? 503 : 200))];
  t.after(() => [trigger.close(), modal.close()]);
  const { output, attempts } = await runTask(trigger, job);
  assert.deepEqual([output.status, attempts, trigger.tokens.size], ["completed", 3, 1]);
  assert.equal(new Set(modal.calls.map((call) => call.body.resume_url)).size, 1);
});

test("a worker that never ends is sent home, and nobody runs the job again here", async (t) => {
  const [trigger, modal] = [await triggerStub(), await modalStub(() => 200, false)];
  t.after(() => [trigger.close(), modal.close()]);
  const running = runTask(trigger, job);
  while (modal.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const [id] = trigger.tokens.keys();
  trigger.settle(id, { ok: false, output: JSON.stringify({ message: "expired" }), outputType: "application/json" });
  const { error, attempts } = await running;
  assert.match(error.message, /no worker has ended/);
  assert.equal(attempts, 1);
  assert.deepEqual(modal.calls.at(-1).body, { call_id: "fc-1" });
  assert.equal(modal.calls.at(-1).path, "/cancel");
});

test("a dispatch that failed for good costs the job an attempt, unless somebody runs it", async (t) => {
  const { claimAndFail } = await import("../dist/src/api.js");
  process.env.ECHO_WORKER_SECRET = "0123456789abcdef";
  const heard = [];
  const answers = [];
  const api = await listen(async (method, path, body, headers, text) => {
    const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${text}`;
    const tag = createHmac("sha256", "0123456789abcdef").update(signed).digest("base64");
    heard.push([path, body.type, headers["webhook-signature"] === `v1,${tag}`, body.data.error?.code]);
    return answers.shift() ?? [200, { job_id: "job-1", epoch: 7, lease_token: "token" }];
  });
  t.after(() => api.close());
  const fault = { code: "upstream_engine", message: "no GPU", retryable: true };
  await claimAndFail({ ...job, api_url: api.url }, fault);
  const path = "/api/v1/webhooks/transcription";
  assert.deepEqual(heard, [
    [path, "transcription.started", true, undefined],
    [path, "transcription.failed", true, "upstream_engine"],
  ]);
  answers.push([409, { code: "stale_lease" }]);
  await claimAndFail({ ...job, api_url: api.url }, fault);
  assert.equal(heard.length, 3);
  // A proxy that knows no API does not say so.
  answers.push([404, "Not Found"]);
  await claimAndFail({ ...job, api_url: api.url }, fault);
  assert.equal(heard.length, 6);
});
