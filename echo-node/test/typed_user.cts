// The same from CommonJS; it is not run.

import echo = require("echo-asr");

export async function main(): Promise<string> {
  const transcriber = await echo.Transcriber.load("base");
  return (await transcriber.transcribe("talk.mp3")).text;
}
