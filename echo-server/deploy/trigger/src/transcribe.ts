/**
 * The task that hands a job of Echo's API to a GPU on Modal and waits for its end.
 *
 * ```text
 * API ── trigger ──► this task ── POST MODAL_WEBHOOK_URL ──► a worker on a GPU
 *  ▲                  │ waits for a token, and holds no machine meanwhile   │
 *  └── signed events of the worker ◄── POST the token's URL at the end ◄────┘
 * ```
 *
 * What a job's words are and whether it is done the API learns from the worker. This task retries the
 * dispatch and nothing else.
 */
import { AbortTaskRunError, logger, metadata, task, wait } from "@trigger.dev/sdk";

import { claimAndFail } from "./api.js";
import { cancelCall, type Job, submit } from "./modal.js";

/** What the worker says at the end. */
export interface Ending {
  status: "completed" | "failed" | "cancelled" | "released" | "unwanted";
}

const WAIT = "4h";

export const transcribe = task({
  id: "echo-transcribe",
  queue: { name: "echo-gpu", concurrencyLimit: Number(process.env.ECHO_GPU_CONCURRENCY ?? 10) },
  run: async (job: Job): Promise<Ending> => {
    // The same token when a dispatch is tried again: a worker that took the job knows it already.
    const token = await wait.createToken({
      timeout: WAIT,
      idempotencyKey: job.delivery_id,
      tags: [`job:${job.job_id}`],
    });
    const call = await submit(job, token.url);
    // Kept with the run: its end may be seen by another process.
    metadata.set("call_id", call);
    logger.info("a worker was asked for", { job_id: job.job_id, call_id: call });
    const ending = await wait.forToken<Ending>(token);
    if (!ending.ok) {
      await cancelCall(call);
      // Its lease has run out long ago, and the API has given the job to somebody else.
      throw new AbortTaskRunError(`no worker has ended job ${job.job_id} in ${WAIT}`);
    }
    return ending.output;
  },
  onCancel: async () => {
    const call = metadata.get("call_id");
    if (typeof call === "string") await cancelCall(call);
  },
  onFailure: async ({ payload, error }) => {
    // A job that somebody runs after all is not failed by this: its claim is refused.
    const reason = error instanceof Error ? error.message : String(error);
    await claimAndFail(payload, { code: "upstream_engine", message: reason, retryable: true });
  },
});
