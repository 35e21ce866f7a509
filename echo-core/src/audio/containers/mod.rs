//! Containers: from the bytes of a file to the packets of its audio tracks, each with its time.
//!
//! [`open`] looks at the first bytes and takes the reader for that container; where they are of no
//! known kind, the name may hint at a format without any header.
//! A [`Demuxer`] then gives packet after packet. Symphonia reads MP4, Matroska, Ogg, FLAC, AIFF and
//! CAF; what it lacks or reads too strictly is read here.

mod amr;
mod asf;
mod avi;
pub(super) mod bytes;
mod elementary;
mod flv;
pub(super) mod frame_header;
mod matroska;
mod mp4;
mod ogg;
mod plain;
mod symphonia;
mod ts;
mod tta;
mod wave;
mod wavpack;

use std::io::{self, Read, Seek, SeekFrom};

use ::symphonia::core::codecs::audio::AudioCodecParameters;

use self::frame_header::FrameKind;
use super::codecs::pcm::Pcm;
use super::codecs::unsupported;
use super::codecs::{speex, wma};
use super::source::{Media, RawFormat};

/// First bytes that are looked at.
const HEAD_BYTES: u64 = 4_096;

/// ID3 tags in a row that are stepped over.
const MAX_TAGS: u32 = 16;

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
    /// Samples in front that are not sound, for codecs whose times count them in: in seconds.
    pub(super) pre_skip: f64,
    /// Whether times count from 0 although nothing may begin there. Elsewhere the media begins
    /// with the first packet of any track.
    pub(super) is_absolute: bool,
    /// How far times may be off before sound counts as missing, in seconds, if they are exact.
    pub(super) gap_tolerance: Option<f64>,
}

/// How a track is encoded.
#[derive(Debug, Clone)]
pub(super) enum Codec {
    Pcm(Pcm),
    /// Opus, with the `OpusHead` that says the number of channels.
    Opus {
        head: Option<Box<[u8]>>,
    },
    /// AAC, with an MPEG-4 configuration.
    Aac {
        configuration: Box<[u8]>,
    },
    /// Frames that carry headers of their own.
    Frames(FrameKind),
    /// GSM 06.10 in blocks of two frames.
    GsmMicrosoft {
        sample_rate_hz: u32,
    },
    AmrWb,
    /// G.722 in one channel, 64 kbit/s.
    G722,
    Speex(speex::Head),
    Wma(wma::Format),
    /// WavPack: the width of whole numbers, or 0 for floats.
    WavPack {
        bits: u32,
        sample_rate_hz: u32,
    },
    TrueAudio {
        channels: u16,
        bits: u16,
        sample_rate_hz: u32,
    },
    /// One that symphonia may know.
    Symphonia(Box<AudioCodecParameters>),
    /// One that nobody here can decode, by name.
    Unknown(String),
    /// One whose description is wrong, with the reason.
    Refused(String),
}

/// One piece of one track.
#[derive(Debug)]
pub(super) struct Packet {
    /// Tracks of pictures are reported as well, without data: the media may begin with them.
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

impl Packet {
    /// A packet that follows right after the last one.
    pub(super) fn untimed(track: u32, data: Vec<u8>) -> Self {
        let data = data.into_boxed_slice();
        Self { track, start: None, trim_start: 0.0, trim_end: 0.0, ticks: 0, data }
    }
}

/// What comes next in a container.
#[derive(Debug)]
pub(super) enum Event {
    Packet(Packet),
    /// The tracks changed: from here on they are as [`Demuxer::tracks`] says now, and their time
    /// starts anew (chained Ogg streams).
    NewTracks,
    /// Much was read and nothing found yet: whoever waits may have had enough of it.
    Nothing,
    End,
}

/// A container being read.
pub(super) trait Demuxer: Send {
    /// Its audio tracks.
    fn tracks(&self) -> &[Track];

    fn next_event(&mut self) -> Result<Event, Fault>;
}

/// Finds out what a file is, and opens it.
pub(super) fn open(
    media: &Media,
    raw: Option<RawFormat>,
    hint: Option<RawFormat>,
) -> Result<Box<dyn Demuxer>, Fault> {
    if let Some(raw) = raw {
        return plain::open_raw(media, raw);
    }
    if media.size_bytes() == 0 {
        return Err(Fault::Damaged("it is empty".into()));
    }
    let (start, head) = head_of(media)?;
    if let Some(what) = what_it_is_instead(&head) {
        return Err(what);
    }
    let magic = head.first_chunk::<4>().copied().unwrap_or_default();
    if ogg::is_speex(&head) {
        return ogg::open(media, start);
    }
    if matches!(&magic, b"OggS" | b"fLaC" | b"caff" | b"FORM") {
        return symphonia::open(media, start, magic);
    }
    match &magic {
        b"TTA1" => return tta::open(media, start),
        b"wvpk" => return wavpack::open(media, start),
        _ => {}
    }
    if head.starts_with(amr::SIGNATURE) {
        return Ok(amr::open(media));
    }
    if start > 0 {
        return elementary::open(media, start, None);
    }
    match &magic {
        _ if asf::is_asf(&head) => asf::open(media),
        b".snd" => plain::open_au(media, &head),
        b"NIST" => plain::open_sphere(media, &head),
        b"FLV\x01" => flv::open(media, &head),
        b"\x1a\x45\xdf\xa3" => symphonia::open_matroska(media),
        _ if wave::is_wave(&head) => wave::open(media, &head),
        _ if avi::is_avi(&head) => avi::open(media),
        _ if mp4::is_mp4(&head) => symphonia::open_mp4(media),
        _ => match ts::find_packets(&head) {
            Some(packets) => ts::open(media, packets),
            None => elementary::open(media, start, None).or_else(|fault| match hint {
                Some(format) => plain::open_raw(media, format),
                None => Err(fault),
            }),
        },
    }
}

/// The first bytes behind ID3 tags, and where they are.
fn head_of(media: &Media) -> Result<(u64, Vec<u8>), Fault> {
    let mut media = media.rewound();
    let mut start = 0;
    let mut tag_count = 0;
    loop {
        let mut head = Vec::new();
        media.seek(SeekFrom::Start(start))?;
        media.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
        let &[b'I', b'D', b'3', _, _, flags, a, b, c, d, ..] = head.as_slice() else {
            return Ok((start, head));
        };
        tag_count += 1;
        if tag_count > MAX_TAGS {
            return Ok((start, head));
        }
        // Seven bits a byte; a footer repeats the header.
        let size = [a, b, c, d].iter().fold(0, |size, byte| size << 7 | u64::from(byte & 0x7f));
        let footer_bytes = if flags & 0x10 == 0 { 0 } else { 10 };
        let end = start + 10 + size + footer_bytes;
        // A tag that claims more than there is: what is behind its header is searched for sound.
        start = if end < media.size_bytes() { end } else { start + 10 };
    }
}

/// Says what a file is that is known but cannot be decoded.
fn what_it_is_instead(head: &[u8]) -> Option<Fault> {
    let names: [(&[u8], &str); 9] = [
        (b"#!AMR\n", "AMR"),
        (b"#!AMR-WB_MC", "AMR-WB of several channels"),
        (b"TTA2", "True Audio"),
        (b"MAC ", "Monkey's Audio"),
        (b"MPCK", "Musepack"),
        (b"MP+", "Musepack"),
        (b".RMF", "RealMedia"),
        (b"DSD ", "DSD"),
        (b"\x7f\xfe\x80\x01", "DTS"),
    ];
    let found = names.iter().find(|(magic, _)| head.starts_with(magic));
    if let Some((_, name)) = found {
        return Some(unsupported(name));
    }
    let is_text = !head.is_empty()
        && head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..));
    let is_picture = [b"\x89PNG".as_slice(), b"\xff\xd8\xff", b"GIF8", b"BM", b"%PDF"]
        .iter()
        .any(|magic| head.starts_with(magic));
    // Text is never followed elsewhere: playlists name files and addresses of others' choosing.
    match (is_picture, is_text && std::str::from_utf8(head).is_ok()) {
        (true, _) => Some(Fault::Damaged("it is a picture or document, not sound".into())),
        (_, true) => Some(Fault::Damaged("it is text, not sound".into())),
        _ => None,
    }
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
