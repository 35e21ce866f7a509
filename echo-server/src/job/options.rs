//! What is asked of the recogniser, and what that is for echo-core.

use echo_core::{
    Channels, Diarization, Language, Task, TranscribeOptions, VadModel, formats::CueOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is asked of the recogniser; the defaults are part of every answer and of the cache key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobOptions {
    /// The language spoken; `None` detects it.
    pub language: Option<Language>,
    /// Transcribe or translate into English.
    pub task: Task,
    /// The model.
    pub model: String,
    /// Names, spelling, style.
    pub initial_prompt: Option<String>,
    /// Words to favour.
    pub hotwords: Vec<String>,
    /// 0 tries higher ones when a text fails its tests; anything else is the only one.
    pub temperature: f32,
    /// Hypotheses kept; 1 is greedy.
    pub beam_size: usize,
    /// Whether words get times.
    pub word_timestamps: bool,
    /// Whether speakers are told apart.
    pub diarize: bool,
    /// Exactly so many speakers.
    pub num_speakers: Option<usize>,
    /// At least so many.
    pub min_speakers: Option<usize>,
    /// At most so many.
    pub max_speakers: Option<usize>,
    /// `mix`, or `split`: a speaker on each channel.
    pub channels: ChannelUse,
    /// Voice activity.
    pub vad: Vad,
    /// Earlier text guides later text.
    pub condition_on_previous_text: bool,
    /// How subtitles are cut, unless a download says otherwise.
    pub subtitle: Subtitle,
}

/// What is done with several channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelUse {
    /// Their mean is heard.
    #[default]
    Mix,
    /// Each is heard by itself.
    Split,
}

/// Rules of voice activity detection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vad {
    /// Without it all of the source is taken for speech.
    pub enabled: bool,
    /// The probability at which speech begins.
    pub onset: f32,
    /// The probability at which it ends.
    pub offset: f32,
    /// The longest chunk in seconds.
    pub chunk_seconds: f64,
}

/// How subtitles are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subtitle {
    /// Columns of a line.
    pub max_line_width: usize,
    /// Lines of a cue.
    pub max_lines: usize,
    /// Underline the word being said.
    pub highlight_words: bool,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            language: None,
            task: Task::Transcribe,
            model: String::new(),
            initial_prompt: None,
            hotwords: Vec::new(),
            temperature: 0.0,
            beam_size: 5,
            word_timestamps: true,
            diarize: false,
            num_speakers: None,
            min_speakers: None,
            max_speakers: None,
            channels: ChannelUse::Mix,
            vad: Vad::default(),
            condition_on_previous_text: false,
            subtitle: Subtitle::default(),
        }
    }
}

impl Default for Vad {
    fn default() -> Self {
        let core = echo_core::VadOptions::default();
        Self {
            enabled: true,
            onset: core.onset,
            offset: core.offset,
            chunk_seconds: core.max_chunk_seconds,
        }
    }
}

impl Default for Subtitle {
    fn default() -> Self {
        Self { max_line_width: 42, max_lines: 2, highlight_words: false }
    }
}

impl Subtitle {
    /// Whether every number is in its range.
    pub fn fits(&self) -> bool {
        (8..=200).contains(&self.max_line_width) && (1..=4).contains(&self.max_lines)
    }

    /// The rules of cutting as echo-core takes them.
    pub fn cues(self) -> CueOptions {
        let mut cues = CueOptions::default();
        cues.max_line_chars = Some(self.max_line_width);
        cues.max_lines = Some(self.max_lines);
        cues.highlight_words = self.highlight_words;
        cues
    }
}

impl JobOptions {
    /// The options as echo-core takes them.
    pub fn to_core(&self) -> TranscribeOptions {
        let mut core = TranscribeOptions::default();
        core.language = self.language;
        core.task = self.task;
        core.words = self.word_timestamps;
        core.decode.beam_size = self.beam_size;
        core.decode.initial_prompt.clone_from(&self.initial_prompt);
        core.decode.condition_on_previous_text = self.condition_on_previous_text;
        if self.condition_on_previous_text {
            core.mode = echo_core::Mode::Sequential;
        }
        if !self.hotwords.is_empty() {
            core.decode.hotwords = Some(self.hotwords.join(" "));
        }
        if self.temperature > 0.0 {
            core.decode.temperatures = vec![self.temperature];
        }
        if self.channels == ChannelUse::Split {
            core.channels = Channels::Each;
        }
        core.vad.onset = self.vad.onset;
        core.vad.offset = self.vad.offset;
        core.vad.max_chunk_seconds = self.vad.chunk_seconds;
        if !self.vad.enabled {
            core.vad.model = VadModel::None;
        }
        if self.diarize {
            let mut diarization = Diarization::new();
            diarization.min_speakers = self.num_speakers.or(self.min_speakers);
            diarization.max_speakers = self.num_speakers.or(self.max_speakers);
            core.diarize = Some(diarization);
        }
        core
    }

    /// The JSON that results of equal options share: all that changes a transcript.
    pub fn canonical(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or(Value::Null);
        if let Some(fields) = value.as_object_mut() {
            fields.remove("subtitle");
        }
        // Maps of `serde_json` are sorted by key.
        value.to_string()
    }
}
