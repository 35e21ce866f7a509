/**
 * Modal's endpoint, as this task uses it: a worker is asked for, or sent home.
 */
import { AbortTaskRunError, logger } from "@trigger.dev/sdk";

/** What the API sends. */
export interface Job {
  v: 1;
  job_id: string;
  /** The job and the number of the lease that its next claim gets. */
  delivery_id: string;
  /** The API's public address. */
  api_url: string;
}

const ANSWER_MS = 30_000;

/** Asks Modal for a worker; the identifier of its call. */
export async function submit(job: Job, resumeUrl: string): Promise<string> {
  const response = await post(endpoint(), { ...job, resume_url: resumeUrl });
  if (response.status >= 400 && response.status < 500 && ![408, 425, 429].includes(response.status)) {
    throw new AbortTaskRunError(`Modal refused the job: status ${response.status}`);
  }
  if (!response.ok) throw new Error(`Modal did not take the job: status ${response.status}`);
  const { call_id } = (await response.json()) as { call_id: string };
  return call_id;
}

/** Ends a call, if it still runs. */
export async function cancelCall(call: string): Promise<void> {
  const response = await post(`${endpoint().replace(/\/$/, "")}/cancel`, { call_id: call });
  if (!response.ok) logger.warn("a call could not be cancelled", { call_id: call, status: response.status });
}

function endpoint(): string {
  const url = process.env.MODAL_WEBHOOK_URL;
  if (!url) throw new AbortTaskRunError("MODAL_WEBHOOK_URL is not set");
  return url;
}

/** A POST with the endpoint's own pair of tokens, which is not the pair that deploys. */
function post(url: string, body: unknown): Promise<Response> {
  const key = process.env.MODAL_PROXY_KEY ?? process.env.MODAL_TOKEN_ID;
  const secret = process.env.MODAL_PROXY_SECRET ?? process.env.MODAL_TOKEN_SECRET;
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (key && secret) Object.assign(headers, { "modal-key": key, "modal-secret": secret });
  return fetch(url, {
    method: "POST",
    headers,
    body: JSON.stringify(body),
    redirect: "follow",
    signal: AbortSignal.timeout(ANSWER_MS),
  });
}
