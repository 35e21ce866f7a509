// A server that answers with text as it is found: `node server.mjs [PORT]`, then
// `curl --data-binary @talk.mp3 localhost:8080`.

import { createServer } from "node:http";

import { EchoError, Transcriber } from "echo-asr";

const transcriber = await Transcriber.load({ model: "base" });

const server = createServer(async (request, response) => {
  const leaving = new AbortController();
  response.on("close", () => leaving.abort());
  try {
    for await (const { start, text } of transcriber.segments(request, { signal: leaving.signal })) {
      response.write(`${start.toFixed(2)} ${text}\n`);
    }
  } catch (error) {
    if (leaving.signal.aborted) return;
    response.statusCode = error instanceof EchoError && error.code === "audio" ? 400 : 500;
    response.write(`${error.message}\n`);
  }
  response.end();
});

server.listen(process.argv[2] ?? 8080, "127.0.0.1", () => {
  console.log(`listening on port ${server.address().port}`);
});
