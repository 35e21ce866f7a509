/**
 * Events to Echo's API, signed as Standard Webhooks say with `ECHO_WORKER_SECRET`.
 */
import { createHmac, randomUUID } from "node:crypto";

import { logger } from "@trigger.dev/sdk";

import type { Job } from "./modal.js";

/** Why a job was not run. */
export interface Fault {
  code: string;
  message: string;
  retryable: boolean;
}

const ANSWER_MS = 30_000;

/** With these codes the API says that the job runs, or is over. The same status of a proxy has none of them. */
const UNWANTED = ["job_not_found", "stale_lease", "job_gone", "result_expired"];

/**
 * Takes an attempt at a job and ends it with a fault: who could not get a worker for it has had it.
 * Without this the job would wait for an announcement that nobody repeats for a while.
 */
export async function claimAndFail(job: Job, error: Fault): Promise<void> {
  const started = await send(job.api_url, "started", {
    job_id: job.job_id,
    delivery_id: job.delivery_id,
    worker_id: "trigger",
  });
  if (!started.ok) {
    logger.warn("a job was not taken to be failed", { job_id: job.job_id, status: started.status });
    return;
  }
  const { job_id, epoch, lease_token } = (await started.json()) as Record<string, unknown>;
  await send(job.api_url, "failed", { job_id, epoch, lease_token, worker_id: "trigger", error });
}

/** Sends one event; tried again where that may help. */
async function send(base: string, kind: string, data: unknown): Promise<Response> {
  const id = `msg_${randomUUID().replaceAll("-", "")}`;
  for (let pause = 500; ; pause *= 3) {
    const response = await trySend(base, id, kind, data).catch((error: unknown) => error as Error);
    const isLast = pause > 30_000;
    if (response instanceof Response && (isLast || !(await isPassing(response)))) return response;
    if (isLast) throw response;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** Whether the answer may be another one later. */
async function isPassing(response: Response): Promise<boolean> {
  if (![404, 409, 410].includes(response.status)) return response.status >= 500;
  const answer = (await response.clone().json().catch(() => undefined)) as { code?: string } | undefined;
  return !UNWANTED.includes(answer?.code ?? "");
}

function trySend(base: string, id: string, kind: string, data: unknown): Promise<Response> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const body = JSON.stringify({ type: `transcription.${kind}`, timestamp: new Date().toISOString(), data });
  const tag = createHmac("sha256", key()).update(`${id}.${timestamp}.${body}`).digest("base64");
  return fetch(`${base.replace(/\/$/, "")}/api/v1/webhooks/transcription`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": `v1,${tag}`,
    },
    body,
    signal: AbortSignal.timeout(ANSWER_MS),
  });
}

/** The bytes of the secret, which Standard Webhooks write as `whsec_` and base64. */
function key(): Buffer {
  const secret = process.env.ECHO_WORKER_SECRET ?? "";
  if (!secret) throw new Error("ECHO_WORKER_SECRET is not set");
  return secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret);
}
