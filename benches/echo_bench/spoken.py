"""Speech whose word boundaries are known: synthesisers that tell when they say what.

espeak-ng (libespeak-ng.so.1) reports words and phonemes while it speaks; flite (libflite.so.1 with the voices cmu_us_*)
keeps the end of every phone and the word that it belongs to. Both through ctypes; pauses belong to no word.
"""

import ctypes
from dataclasses import dataclass, field

import numpy as np

TARGET_HZ = 16_000


@dataclass
class Speech:
    """Samples at 16 kHz from -1 to 1, and [word, start, end] in seconds."""

    samples: np.ndarray
    words: list = field(default_factory=list)


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
                ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("id", _Id)]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_WORD, _END, _PHONEME = 1, 5, 7
_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _UTF8 = 2, 1, 2, 1


class Espeak:
    """espeak-ng: one instance a process."""

    def __init__(self):
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(_SYNCHRONOUS, 200, None, _PHONEME_EVENTS)
        self.pieces, self.events = [], []

        def hear(samples, count, events):
            if samples and count > 0:
                self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
            at = 0
            while events and events[at].type != 0:
                event = events[at]
                name = event.id.string.decode(errors="replace") if event.type == _PHONEME else ""
                self.events.append((event.type, event.text_position, event.length, event.sample, name))
                at += 1
            return 0

        self.callback = _CALLBACK(hear)
        self.library.espeak_SetSynthCallback(self.callback)

    def say(self, text: str, voice: str, words_per_minute: int = 160) -> Speech:
        self.pieces, self.events = [], []
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SystemExit(f"error: espeak-ng has no voice {voice}")
        self.library.espeak_SetParameter(1, words_per_minute, 0)
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, _UTF8, None, None)
        self.library.espeak_Synchronize()
        samples = np.concatenate(self.pieces).astype(np.float32) / 32768
        starts, marks = [], []
        for kind, position, length, sample, name in self.events:
            if kind == _WORD:
                starts.append((sample / self.rate, text[position - 1:position - 1 + length]))
            elif kind == _PHONEME:
                marks.append((sample / self.rate, name.strip()))
            elif kind == _END:
                marks.append((sample / self.rate, ""))
        words = []
        total = len(samples) / self.rate
        for index, (start, word) in enumerate(starts):
            following = starts[index + 1][0] if index + 1 < len(starts) else total
            # A pause is a phoneme without a name, or one written with underscores or colons alone.
            pauses = [at for at, name in marks if start < at <= following and not name.strip("_:|;")]
            words.append([word, start, min([following, *pauses])])
        return Speech(resample(samples, self.rate), words)


class Flite:
    """flite with one of its cmu_us_* voices."""

    def __init__(self, voice: str):
        self.lib = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        for name in ["usenglish", "cmulex"]:
            ctypes.CDLL(f"libflite_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
        voices = ctypes.CDLL(f"libflite_cmu_us_{voice}.so.1")
        self.lib.flite_init()
        register = getattr(voices, f"register_cmu_us_{voice}")
        register.restype = ctypes.c_void_p
        self.voice = register(None)
        for name in ["flite_synth_text", "utt_relation", "relation_head", "item_next", "utt_wave", "item_parent",
                     "item_as"]:
            getattr(self.lib, name).restype = ctypes.c_void_p
        self.lib.item_feat_float.restype = ctypes.c_float
        self.lib.ffeature_string.restype = ctypes.c_char_p
        self.lib.ffeature_float.restype = ctypes.c_float
        self.lib.item_feat_string.restype = ctypes.c_char_p

    def say(self, text: str) -> Speech:
        lib, pointer = self.lib, ctypes.c_void_p
        utterance = pointer(lib.flite_synth_text(text.encode(), pointer(self.voice)))

        class Wave(ctypes.Structure):
            _fields_ = [("type", ctypes.c_char_p), ("sample_rate", ctypes.c_int), ("num_samples", ctypes.c_int),
                        ("num_channels", ctypes.c_int), ("samples", ctypes.POINTER(ctypes.c_short))]

        wave = ctypes.cast(lib.utt_wave(utterance), ctypes.POINTER(Wave)).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / 32768
        rate = wave.sample_rate
        words, start, last = [], 0.0, None
        item = lib.relation_head(pointer(lib.utt_relation(utterance, b"Segment")))
        while item:
            item = pointer(item)
            end = lib.item_feat_float(item, b"end")
            in_tree = lib.item_as(item, b"SylStructure")
            syllable = lib.item_parent(pointer(in_tree)) if in_tree else None
            word = lib.item_parent(pointer(syllable)) if syllable else None
            if word:
                if word != last:
                    words.append([lib.item_feat_string(pointer(word), b"name").decode(), start, end])
                words[-1][2] = end
            last, start = word, end
            item = lib.item_next(item)
        lib.delete_utterance(utterance)
        return Speech(resample(samples, rate), words)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """To 16 kHz by the discrete Fourier transform, which adds no delay."""
    if rate == TARGET_HZ:
        return samples
    count = round(len(samples) * TARGET_HZ / rate)
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(count // 2 + 1, np.complex64)
    both = min(len(kept), len(spectrum))
    kept[:both] = spectrum[:both]
    return (np.fft.irfft(kept, count) * (count / len(samples))).astype(np.float32)


def joined(parts: list, pause_seconds: list) -> Speech:
    """Speech after speech, with silence between."""
    pieces, words, now = [], [], 0.0
    for part, pause in zip(parts, pause_seconds):
        words += [[word, start + now, end + now] for word, start, end in part.words]
        gap = np.zeros(round(pause * TARGET_HZ), np.float32)
        pieces += [part.samples, gap]
        now += (len(part.samples) + len(gap)) / TARGET_HZ
    return Speech(np.concatenate(pieces), words)
