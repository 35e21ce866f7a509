// A program as a user writes it, for `tsc --strict`; it is not run.

import { createReadStream } from "node:fs";

import { EchoError, Transcriber, Transcript, loadAudio, models, type Segment } from "echo-asr";

const transcriber = await Transcriber.load({
  model: "large-v3-turbo",
  device: "auto",
  onDownload: ({ doneBytes, totalBytes }) => console.log(doneBytes, totalBytes),
});
try {
  const transcript: Transcript = await transcriber.transcribe("interview.mp4", {
    language: "de",
    beamSize: 1,
    vad: { onset: 0.4 },
    onProgress: ({ stage, fraction }) => console.log(stage, fraction),
    signal: AbortSignal.timeout(600_000),
  });
  await transcript.save("interview.srt", { maxLineChars: 42 });
  for await (const segment of transcriber.segments(createReadStream("talk.mp3"))) {
    const speaker: string | undefined = segment.speaker;
    console.log(segment.start, speaker, segment.text, segment.words.map((word) => word.text));
  }
  for await (const { source, transcript, error } of transcriber.transcribeMany(["a.mp3"])) {
    if (error) console.log(source.length, error.code);
    else console.log(transcript.text);
  }
  const { samples, sampleRateHz } = await loadAudio(new URL("file:///talk.mp3"));
  const segments: Segment[] = (await transcriber.transcribe({ samples, sampleRateHz })).segments;
  const [best] = await transcriber.detectLanguage(new Uint8Array(4));
  console.log(segments.length, best?.language, models.catalog()[0]?.sizeBytes);
  // @ts-expect-error an option has its type
  await transcriber.transcribe("a.mp3", { beamSize: "five" });
  // @ts-expect-error samples need a rate
  await transcriber.transcribe({ samples });
} catch (error) {
  if (error instanceof EchoError && error.code === "audio") console.error(error.message);
  else throw error;
}
