import echo from "./index.cjs";

export const { EchoError, Transcriber, Transcript, loadAudio, models } = echo;
