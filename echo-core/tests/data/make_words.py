"""Word times of openai-whisper 20250625 on two clips, given the tokens: tests/data/alignment/words_base.json.

python make_words.py base.pt PCM_FOLDER decoding/faster_whisper_base.json alignment/words_base.json

PCM_FOLDER holds the clips (asr__english__jfk.flac.wav) at 16 kHz mono, 16 bits, as faster-whisper decodes them.
"""
import json
import sys
import wave

import numpy as np
import whisper
from whisper.audio import log_mel_spectrogram
from whisper.timing import find_alignment
from whisper.tokenizer import get_tokenizer

model_file, pcm, golden, out = sys.argv[1:]
model = whisper.load_model(model_file, device="cpu")
if not hasattr(model, "alignment_heads") or model.alignment_heads._nnz() != 8:
    model.set_alignment_heads(whisper._ALIGNMENT_HEADS["base"])
clips = json.load(open(golden))["clips"]
result = {}
for name in ["jfk", "de"]:
    clip = clips[name]
    samples = np.frombuffer(wave.open(f"{pcm}/{clip['file'].replace('/', '__')}.wav").readframes(10**9), np.int16) / 32768
    mel = log_mel_spectrogram(samples.astype(np.float32), padding=480000)
    frames = len(samples) // 160
    segment = whisper.audio.pad_or_trim(mel[:, :frames], 3000)
    tokens = [t for t in clip["modes"]["beam5"]["tokens"] if t < 50257]
    tokenizer = get_tokenizer(True, language=clip["language"], task="transcribe")
    words = find_alignment(model, tokenizer, tokens, segment, frames)
    result[name] = {
        "file": clip["file"],
        "language": clip["language"],
        "tokens": tokens,
        "words": [[w.word, round(float(w.start), 2), round(float(w.end), 2)] for w in words],
    }
json.dump({"program": "openai-whisper 20250625, torch 2.8.0, CPU, f32", "clips": result},
          open(out, "w"), ensure_ascii=False, indent=1)
