//! Transcripts as OpenAI writes them.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use echo_core::formats::OutputFormat;
use echo_core::{Segment, SpeakerId, Task, Transcript};
use serde_json::{Map, Value, json};

use super::fields::{Asked, Format};
use crate::error::Problem;

/// The answer in the format asked for.
pub(super) fn write(transcript: &Transcript, asked: &Asked) -> Result<Response, Problem> {
    let plain = "text/plain; charset=utf-8";
    Ok(match asked.format {
        Format::Text => {
            ([(header::CONTENT_TYPE, plain)], format!("{}\n", transcript.text())).into_response()
        }
        Format::Srt => subtitles(transcript, OutputFormat::Srt)?,
        Format::Vtt => subtitles(transcript, OutputFormat::Vtt)?,
        Format::Json => {
            axum::Json(json!({ "text": transcript.text(), "usage": usage(transcript) }))
                .into_response()
        }
        Format::VerboseJson => axum::Json(verbose(transcript, asked)).into_response(),
        Format::DiarizedJson => axum::Json(diarized(transcript)).into_response(),
    })
}

fn subtitles(transcript: &Transcript, format: OutputFormat) -> Result<Response, Problem> {
    let mut body = Vec::new();
    transcript.write(format.writer(), &mut body).map_err(|error| {
        tracing::error!(%error, "subtitles could not be written");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, format.media_type())], body).into_response())
}

pub(super) fn usage(transcript: &Transcript) -> Value {
    json!({ "type": "duration", "seconds": transcript.duration.ceil() as u64 })
}

fn verbose(transcript: &Transcript, asked: &Asked) -> Value {
    let task = match asked.submission.options.task {
        Task::Transcribe => "transcribe",
        Task::Translate => "translate",
    };
    let language =
        transcript.language.map_or(String::new(), |language| language.name().to_lowercase());
    let mut answer = Map::new();
    answer.insert("task".into(), json!(task));
    answer.insert("language".into(), json!(language));
    answer.insert("duration".into(), json!(transcript.duration));
    answer.insert("text".into(), json!(transcript.text()));
    if asked.has_segments {
        let segments = transcript.segments.iter().enumerate();
        answer.insert(
            "segments".into(),
            segments.map(|(id, segment)| verbose_segment(id, segment)).collect(),
        );
    }
    if asked.has_words {
        let words = transcript.words();
        let words = words.map(|w| json!({ "word": w.text, "start": w.start, "end": w.end }));
        answer.insert("words".into(), words.collect());
    }
    answer.insert("usage".into(), usage(transcript));
    Value::Object(answer)
}

fn verbose_segment(id: usize, segment: &Segment) -> Value {
    let decoding = segment.decoding.clone().unwrap_or_default();
    json!({
        "id": id,
        // Hundredths of a second to the window's start, which is the segment's in batched decoding.
        "seek": (segment.start * 100.0) as u64,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": decoding.tokens,
        "temperature": decoding.temperature,
        "avg_logprob": decoding.avg_logprob,
        "compression_ratio": decoding.compression_ratio,
        "no_speech_prob": decoding.no_speech_prob,
    })
}

fn diarized(transcript: &Transcript) -> Value {
    let segments: Vec<Value> = transcript
        .segments
        .iter()
        .enumerate()
        .map(|(id, segment)| diarized_segment(transcript, id, segment))
        .collect();
    json!({
        "task": "transcribe",
        "duration": transcript.duration,
        "text": transcript.text(),
        "segments": segments,
        "usage": usage(transcript),
    })
}

/// One segment with its speaker: `A`, `B`, … in order of appearance.
pub(super) fn diarized_segment(transcript: &Transcript, id: usize, segment: &Segment) -> Value {
    json!({
        "type": "transcript.text.segment",
        "id": format!("seg_{id}"),
        "start": segment.start,
        "end": segment.end,
        "speaker": letter(transcript, segment.speaker.as_ref()),
        "text": segment.text,
    })
}

fn letter(transcript: &Transcript, speaker: Option<&SpeakerId>) -> String {
    let index = speaker.and_then(|own| transcript.speakers.iter().position(|known| known == own));
    let mut index = index.unwrap_or(0);
    let mut letters = String::new();
    loop {
        letters.insert(0, char::from(b'A' + (index % 26) as u8));
        if index < 26 {
            return letters;
        }
        index = index / 26 - 1;
    }
}
