/*
 * A large file on its way, which goes on where it was when the line was cut: tus 1.0.
 *
 * The server keeps each byte that came. Whoever tries again asks how many those are and sends the rest,
 * so that a cut costs what was under way at that moment and not the file.
 */

import { ApiError, call, push, send } from "./api.js";

const TUS = { "Tus-Resumable": "1.0.0" };

/**
 * Sends `item.file` and makes a job of it with `item.options`. `item.upload` names the upload at the
 * server and is kept by the item, so that the next try goes on with it. `onProgress(loaded, total)`
 * counts bytes of the file. The answer is `{done, abort}`; the promise `done` gives the job.
 */
export function sendInPieces(item, onProgress) {
  const controller = new AbortController();
  let piece = null;
  const abort = () => {
    controller.abort();
    piece?.abort();
  };
  const all = async () => {
    const { file, options, key } = item;
    let offset = await standing(item, controller.signal);
    onProgress(offset, file.size);
    while (offset < file.size) {
      if (controller.signal.aborted) throw new ApiError({ code: "aborted" });
      const from = offset;
      const headers = { ...TUS, "Upload-Offset": String(from), "Content-Type": "application/offset+octet-stream" };
      piece = push("PATCH", `uploads/${item.upload}`, headers, file.slice(from), (loaded) =>
        onProgress(from + loaded, file.size),
      );
      offset = Number((await piece.done).getResponseHeader("Upload-Offset"));
      if (!(offset > from)) throw new ApiError({ code: "upload_aborted" });
    }
    return call("upload/complete", {
      method: "POST",
      json: { upload_id: item.upload, options },
      headers: { "Idempotency-Key": key },
      signal: controller.signal,
    });
  };
  return { done: all(), abort };
}

/** How many bytes the server has, of an upload that is made where there is none any more. */
async function standing(item, signal) {
  if (item.upload) {
    try {
      const answer = await send(`uploads/${item.upload}`, { method: "HEAD", headers: TUS, signal });
      return Number(answer.headers.get("Upload-Offset"));
    } catch (error) {
      if (error.status !== 404 && error.status !== 410) throw error;
      item.upload = null;
    }
  }
  const name = String.fromCodePoint(...new TextEncoder().encode(item.file.name.slice(0, 255)));
  const headers = { ...TUS, "Upload-Length": String(item.file.size), "Upload-Metadata": `filename ${btoa(name)}` };
  const answer = await send("uploads", { method: "POST", headers, signal });
  item.upload = answer.headers.get("Location").split("/").pop();
  return 0;
}

/** Lets the server forget an upload that nobody wants any more; it does so by itself after a day. */
export function forget(item) {
  if (item.upload) send(`uploads/${item.upload}`, { method: "DELETE", headers: TUS }).catch(() => {});
}
