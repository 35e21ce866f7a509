// Trigger.dev on the loopback address for a test of everything: a run of the real task for each trigger.
// Prints its address, and ends when its standard input does.
import { listen, runTask, triggerStub } from "./support.mjs";

const inner = await triggerStub();
const runs = new Map();

const stub = await listen(async (method, path, body, headers) => {
  if (headers.authorization !== `Bearer ${process.env.ECHO_STUB_KEY}`) return [401, { error: "wrong key" }];
  if (method === "POST" && path === "/api/v1/tasks/echo-transcribe/trigger") {
    const { payload, options } = body;
    if (options.tags.length > 10 || options.tags.some((tag) => tag.length > 128)) return [422, { error: "tags" }];
    if (!runs.has(options.idempotencyKey)) {
      const id = `run_${runs.size + 1}`;
      runs.set(options.idempotencyKey, id);
      runTask(inner, payload, id).then(
        ({ output, error }) => process.stderr.write(`${id}: ${error ?? JSON.stringify(output)}\n`),
      );
    }
    return [200, { id: runs.get(options.idempotencyKey) }];
  }
  if (method === "GET" && path === "/runs") return [200, [...runs.keys()]];
  if (method === "POST" && /^\/api\/v2\/runs\/run_\d+\/cancel$/.test(path)) return [200, { id: path.split("/")[4] }];
  return [404, { error: `${method} ${path}` }];
});
process.stdout.write(`${stub.url}\n`);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
