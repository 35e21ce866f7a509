import echo from "./index.cjs";

export const { EchoError, Transcriber, Transcript, diarize, loadAudio, models } = echo;
