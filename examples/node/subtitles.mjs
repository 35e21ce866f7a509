// Subtitles beside a recording: `node subtitles.mjs FILE [MODEL]`.

import { Transcriber } from "echo-asr";

const [path, model = "base"] = process.argv.slice(2);
const transcriber = await Transcriber.load({ model });
const transcript = await transcriber.transcribe(path, {
  onProgress: ({ stage, fraction }) => process.stderr.write(`\r${stage} ${(fraction * 100) | 0} % `),
});
const target = path.replace(/(\.[^./\\]*)?$/, ".srt");
await transcript.save(target, { maxLineChars: 42, maxLines: 2 });
console.log(target);
