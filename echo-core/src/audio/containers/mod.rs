//! Containers: from the bytes of a file to the packets of its audio tracks, each with its time.
//!
//! [`open`] looks at the first bytes, never at the name, and takes the reader for that container.
//! A [`Demuxer`] then gives packet after packet. Symphonia reads most containers.

mod symphonia;

use std::io::{self, Read};

use ::symphonia::core::codecs::audio::AudioCodecParameters;

use super::source::{Media, RawFormat};

/// Why a container or codec cannot go on.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes end before the structure they are part of.
    Truncated,
    /// The bytes are not what the format says they should be.
    Damaged(String),
    /// It is understood what this is, but it cannot be decoded.
    Unsupported(String),
}

/// One audio track.
#[derive(Debug, Clone)]
pub(super) struct Track {
    /// As packets name it.
    pub(super) id: u32,
    pub(super) is_default: bool,
    pub(super) codec: Codec,
    pub(super) timing: TrackTiming,
}

/// What the container says about a track's place on the media timeline.
#[derive(Debug, Clone, Default)]
pub(super) struct TrackTiming {
    /// Where the track ends, in seconds on the media timeline, if something after it is padding.
    pub(super) end: Option<f64>,
    /// The length the container declares, in seconds: less than that is a truncated file.
    pub(super) declared_duration: Option<f64>,
}

/// How a track is encoded.
#[derive(Debug, Clone)]
pub(super) enum Codec {
    /// One that symphonia may know.
    Symphonia(Box<AudioCodecParameters>),
    /// Opus, with the `OpusHead` that says the number of channels.
    Opus { head: Option<Box<[u8]>> },
    /// One that nobody here can decode, by name.
    Unknown(String),
}

/// One piece of one track.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) track: u32,
    /// When its first sample is heard, in seconds on the media timeline; below 0 is not heard at
    /// all (encoder delay). `None` where the container keeps no time: right after the last one.
    pub(super) start: Option<f64>,
    /// Seconds to cut from its decoded ends.
    pub(super) trim_start: f64,
    pub(super) trim_end: f64,
    /// Its length in units of the container, which some codecs need (block ADPCM); else 0.
    pub(super) ticks: u64,
    pub(super) data: Box<[u8]>,
}

/// What comes next in a container.
pub(super) enum Event {
    Packet(Packet),
    /// The tracks changed: from here on they are as [`Demuxer::tracks`] says now, and their time
    /// starts again at 0 (chained Ogg streams).
    NewTracks,
    End,
}

/// A container being read.
pub(super) trait Demuxer: Send {
    /// Its audio tracks.
    fn tracks(&self) -> &[Track];

    fn next_event(&mut self) -> Result<Event, Fault>;
}

/// Finds out what a file is, and opens it.
pub(super) fn open(media: &Media, raw: Option<RawFormat>) -> Result<Box<dyn Demuxer>, Fault> {
    let _ = raw;
    let head = head_of(media)?;
    if head.is_empty() {
        return Err(Fault::Damaged("it is empty".into()));
    }
    symphonia::open(media)
}

/// The first bytes.
fn head_of(media: &Media) -> Result<Vec<u8>, Fault> {
    let mut head = Vec::new();
    media.rewound().take(4_096).read_to_end(&mut head)?;
    Ok(head)
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<::symphonia::core::errors::Error> for Fault {
    fn from(error: ::symphonia::core::errors::Error) -> Self {
        use ::symphonia::core::errors::Error as Reason;
        match error {
            Reason::IoError(error) => error.into(),
            Reason::Unsupported(what) => Self::Unsupported(what.into()),
            other => Self::Damaged(other.to_string()),
        }
    }
}
