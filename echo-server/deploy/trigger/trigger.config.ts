import { defineConfig } from "@trigger.dev/sdk";

export default defineConfig({
  // The project of `TRIGGER_PROJECT_ID`; a name in its place lets types and tests do without one.
  project: process.env.TRIGGER_PROJECT_ID ?? "proj_echo",
  dirs: ["./src"],
  // Longer than the longest job, whose waiting may count.
  maxDuration: 5 * 3600,
  retries: {
    enabledInDev: false,
    // Of the dispatch only: the API counts attempts at jobs, and whoever comes second finds a job taken.
    default: { maxAttempts: 3, minTimeoutInMs: 1_000, maxTimeoutInMs: 30_000, factor: 4, randomize: true },
  },
});
