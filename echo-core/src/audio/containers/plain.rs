//! Headers that are followed by nothing but samples: Sun AU, NIST SPHERE, and no header at all.

use super::bytes::Bytes;
use super::wave::Blocks;
use super::{Codec, Demuxer, Fault, Track, TrackTiming};
use crate::audio::codecs::pcm::{Pcm, Sample};
use crate::audio::codecs::unsupported;
use crate::audio::downmix::MAX_CHANNELS;
use crate::audio::resample::RATES_HZ;
use crate::audio::source::{Media, RawEncoding, RawFormat};

const PACKET_FRAMES: usize = 4_096;

/// Samples from a position to the end of the file, or as many bytes as a header says.
fn samples(
    media: &Media,
    start: u64,
    declared_bytes: Option<u64>,
    pcm: Pcm,
) -> Result<Box<dyn Demuxer>, Fault> {
    if pcm.channels == 0 || usize::from(pcm.channels) > MAX_CHANNELS {
        return Err(Fault::Damaged(format!("{} channels, expected 1 to 64", pcm.channels)));
    }
    if !RATES_HZ.contains(&pcm.sample_rate_hz) {
        return Err(Fault::Damaged(format!("sample rate is {} Hz", pcm.sample_rate_hz)));
    }
    let available = media.size_bytes().saturating_sub(start);
    let declared_duration = declared_bytes
        .filter(|bytes| *bytes > available)
        .map(|bytes| bytes as f64 / pcm.frame_bytes() as f64 / f64::from(pcm.sample_rate_hz));
    let timing = TrackTiming { declared_duration, ..TrackTiming::default() };
    Ok(Box::new(Blocks {
        media: media.rewound(),
        position: start,
        end: start + declared_bytes.unwrap_or(available).min(available),
        tracks: vec![Track { id: 0, is_default: true, codec: Codec::Pcm(pcm), timing }],
        unit_bytes: pcm.frame_bytes(),
        frames_per_unit: 1,
        units_per_packet: PACKET_FRAMES,
    }))
}

/// Samples whose format the caller names.
pub(super) fn open_raw(media: &Media, raw: RawFormat) -> Result<Box<dyn Demuxer>, Fault> {
    let sample = match raw.encoding {
        RawEncoding::G722 => return open_g722(media, 0, raw),
        RawEncoding::U8 => Sample::U8,
        RawEncoding::S16Le => Sample::S16Le,
        RawEncoding::S16Be => Sample::S16Be,
        RawEncoding::S24Le => Sample::S24Le,
        RawEncoding::S32Le => Sample::S32Le,
        RawEncoding::F32Le => Sample::F32Le,
        RawEncoding::MuLaw => Sample::MuLaw,
        RawEncoding::ALaw => Sample::ALaw,
    };
    let (channels, sample_rate_hz) = (raw.channels, raw.sample_rate_hz);
    samples(media, 0, None, Pcm { sample, channels, sample_rate_hz })
}

/// G.722, which is one channel at 16 kHz.
fn open_g722(media: &Media, start: u64, raw: RawFormat) -> Result<Box<dyn Demuxer>, Fault> {
    if (raw.sample_rate_hz, raw.channels) != (16_000, 1) {
        return Err(Fault::Damaged("G.722 is one channel at 16,000 Hz".into()));
    }
    let (codec, timing) = (Codec::G722, TrackTiming::default());
    Ok(Box::new(Blocks {
        media: media.rewound(),
        position: start,
        end: media.size_bytes(),
        tracks: vec![Track { id: 0, is_default: true, codec, timing }],
        unit_bytes: 1,
        frames_per_unit: 2,
        units_per_packet: PACKET_FRAMES / 2,
    }))
}

/// Sun and NeXT audio: six numbers, a comment, samples.
pub(super) fn open_au(media: &Media, head: &[u8]) -> Result<Box<dyn Demuxer>, Fault> {
    let mut bytes = Bytes::new(head);
    bytes.take(4)?;
    let start = u64::from(bytes.u32_be()?);
    // All ones: the writer did not know.
    let declared = Some(bytes.u32_be()?).filter(|size| *size != u32::MAX).map(u64::from);
    let sample = match bytes.u32_be()? {
        1 => Sample::MuLaw,
        2 => Sample::S8,
        3 => Sample::S16Be,
        4 => Sample::S24Be,
        5 => Sample::S32Be,
        6 => Sample::F32Be,
        7 => Sample::F64Be,
        27 => Sample::ALaw,
        23 => return Err(unsupported("G.721")),
        24 => return Err(unsupported("G.722")),
        25 | 26 => return Err(unsupported("G.723")),
        encoding => return Err(unsupported(&format!("with AU encoding {encoding}"))),
    };
    let sample_rate_hz = bytes.u32_be()?;
    let channels = u16::try_from(bytes.u32_be()?).unwrap_or(u16::MAX);
    samples(media, start, declared, Pcm { sample, channels, sample_rate_hz })
}

/// NIST SPHERE: lines of text, each with a name, a type and a value.
pub(super) fn open_sphere(media: &Media, head: &[u8]) -> Result<Box<dyn Demuxer>, Fault> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let header_bytes = lines.nth(1).and_then(|line| line.trim().parse::<u64>().ok());
    let start = header_bytes.filter(|size| (16..=1 << 20).contains(size));
    let start = start.ok_or_else(|| Fault::Damaged("a SPHERE header without its size".into()))?;
    let (mut channels, mut sample_rate_hz, mut sample_bytes, mut frames) = (1, 0, 2, None);
    let (mut coding, mut order) = ("pcm".to_owned(), "01".to_owned());
    for line in lines.take_while(|line| line.trim() != "end_head") {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(_type), Some(value)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        match name {
            "channel_count" => channels = value.parse().unwrap_or(0),
            "sample_rate" => sample_rate_hz = value.parse().unwrap_or(0),
            "sample_n_bytes" => sample_bytes = value.parse().unwrap_or(0),
            "sample_count" => frames = value.parse::<u64>().ok(),
            "sample_byte_format" => order = value.to_owned(),
            "sample_coding" => coding = value.to_owned(),
            _ => {}
        }
    }
    let sample = match (coding.as_str(), sample_bytes, order.as_str()) {
        ("pcm" | "linear", 1, _) => Sample::S8,
        ("pcm" | "linear", 2, "10") => Sample::S16Be,
        ("pcm" | "linear", 2, _) => Sample::S16Le,
        ("ulaw" | "mu-law", 1, _) => Sample::MuLaw,
        ("alaw", 1, _) => Sample::ALaw,
        (coding, ..) => return Err(unsupported(&format!("{coding} in SPHERE"))),
    };
    let pcm = Pcm { sample, channels, sample_rate_hz };
    let declared = frames.map(|frames| frames.saturating_mul(pcm.frame_bytes() as u64));
    samples(media, start, declared, pcm)
}
