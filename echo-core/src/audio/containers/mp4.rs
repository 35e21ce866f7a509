//! What symphonia leaves out of MP4 and QuickTime files: which part of a track is presented, when.
//!
//! An edit list (ISO/IEC 14496-12, section 8.6.6) cuts the samples an AAC encoder puts in front,
//! and delays a track that starts late. Files of iTunes have no edit list but a note, `iTunSMPB`,
//! with the same numbers. Very old QuickTime files lack the `ftyp` box that symphonia asks for; it
//! is shown to it behind the end of the file.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::Fault;
use super::bytes::Bytes;
use crate::audio::source::Media;

/// Boxes visited before a file counts as hostile.
const MAX_BOXES: u32 = 10_000;

/// A `moov` larger than this is not looked into; five hours of video make some 20 MB.
const MAX_MOVIE_BYTES: u64 = 256 << 20;

/// Types of boxes that a file may begin with.
const FIRST_BOXES: [&[u8; 4]; 7] = [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"];

/// Whether these are the first bytes of such a file.
pub(super) fn is_mp4(head: &[u8]) -> bool {
    head.get(4..8).is_some_and(|kind| FIRST_BOXES.iter().any(|first| kind == *first))
}

/// When a track is presented.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Presentation {
    pub(super) track: u32,
    /// Added to the times of its packets, in seconds.
    pub(super) shift: f64,
    /// Its end on the media timeline, in seconds.
    pub(super) end: Option<f64>,
}

/// The movie as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Movie {
    pub(super) presentations: Vec<Presentation>,
    /// Whether samples come in fragments, whose times may start anywhere.
    pub(super) is_fragmented: bool,
    pub(super) has_file_type: bool,
    pub(super) is_described: bool,
    /// The end of its boxes, which is beyond the end of a truncated file.
    pub(super) end: u64,
}

/// Reads the movie box; what cannot be understood is left to symphonia to refuse.
pub(super) fn movie(media: &Media) -> Result<Movie, Fault> {
    let mut media = media.rewound();
    let mut movie = Movie::default();
    let mut position = 0;
    for _ in 0..MAX_BOXES {
        let header = media.read_at(position, 16)?;
        let Ok(header) = BoxHeader::parse(&header) else { break };
        movie.has_file_type |= &header.kind == b"ftyp";
        if &header.kind == b"moov" {
            let size_bytes = header.body_bytes.unwrap_or(u64::MAX).min(MAX_MOVIE_BYTES) as usize;
            let body = media.read_at(position + header.header_bytes, size_bytes)?;
            movie.read(&body);
            movie.is_described = true;
        }
        let Some(next) = header
            .body_bytes
            .and_then(|body| position.checked_add(header.header_bytes)?.checked_add(body))
        else {
            break;
        };
        position = next;
        movie.end = next;
    }
    Ok(movie)
}

struct BoxHeader {
    kind: [u8; 4],
    header_bytes: u64,
    /// `None`: to the end of what it is in.
    body_bytes: Option<u64>,
}

impl BoxHeader {
    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut bytes = Bytes::new(bytes);
        let size = bytes.u32_be()?;
        let kind = bytes.array()?;
        let (header_bytes, size) = match size {
            0 => return Ok(Self { kind, header_bytes: 8, body_bytes: None }),
            1 => (16, bytes.u64_be()?),
            size => (8, u64::from(size)),
        };
        let body_bytes = size.checked_sub(header_bytes).ok_or(Fault::Truncated)?;
        Ok(Self { kind, header_bytes, body_bytes: Some(body_bytes) })
    }
}

/// The boxes in a body, as far as they are whole.
fn boxes(mut body: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let header = BoxHeader::parse(body).ok()?;
        let rest = body.get(header.header_bytes as usize..)?;
        let size = header.body_bytes.unwrap_or(rest.len() as u64).min(rest.len() as u64);
        let (inner, next) = rest.split_at(size as usize);
        body = next;
        Some((header.kind, inner))
    })
}

/// The first box of a kind along a path.
fn find<'a>(body: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let mut body = body;
    for kind in path {
        body = boxes(body).find(|(found, _)| found == *kind)?.1;
    }
    Some(body)
}

impl Movie {
    fn read(&mut self, body: &[u8]) {
        self.is_fragmented = find(body, &[b"mvex"]).is_some();
        let Some(movie_scale) = find(body, &[b"mvhd"]).and_then(time_scale) else { return };
        let gapless = find(body, &[b"udta", b"meta"]).and_then(itunes_note);
        for (kind, track) in boxes(body) {
            if &kind == b"trak" {
                self.presentations.extend(presentation(track, movie_scale, gapless));
            }
        }
    }
}

/// Units a second, of `mvhd` and `mdhd` alike.
fn time_scale(header: &[u8]) -> Option<f64> {
    let mut bytes = Bytes::new(header);
    let is_wide = bytes.u32_be().ok()? >> 24 == 1;
    bytes.take(if is_wide { 16 } else { 8 }).ok()?;
    let scale = bytes.u32_be().ok()?;
    (scale > 0).then_some(f64::from(scale))
}

fn presentation(track: &[u8], movie_scale: f64, gapless: Option<Gapless>) -> Option<Presentation> {
    let mut header = Bytes::new(find(track, &[b"tkhd"])?);
    let is_wide = header.u32_be().ok()? >> 24 == 1;
    header.take(if is_wide { 16 } else { 8 }).ok()?;
    let id = header.u32_be().ok()?;
    let media_scale = find(track, &[b"mdia", b"mdhd"]).and_then(time_scale)?;
    let mut presentation = Presentation { track: id, ..Presentation::default() };
    if let Some(list) = find(track, &[b"edts", b"elst"]) {
        presentation.edit(list, movie_scale, media_scale);
    } else if let Some(gapless) = gapless {
        // The note counts samples of the one audio track, whose time scale is its rate.
        presentation.shift = -(f64::from(gapless.delay_samples) / media_scale);
        presentation.end = Some(gapless.samples as f64 / media_scale);
    }
    Some(presentation)
}

impl Presentation {
    /// Follows an edit list: empty edits delay, the first other one says where to begin.
    fn edit(&mut self, list: &[u8], movie_scale: f64, media_scale: f64) {
        let mut bytes = Bytes::new(list);
        let Ok([version, ..]) = bytes.array::<4>() else { return };
        let Ok(count) = bytes.u32_be() else { return };
        let mut delay = 0.0;
        let mut begun = None;
        for _ in 0..count {
            let entry = if version == 1 {
                bytes.u64_be().and_then(|length| Ok((length, bytes.u64_be()? as i64)))
            } else {
                bytes
                    .u32_be()
                    .and_then(|length| Ok((u64::from(length), i64::from(bytes.u32_be()? as i32))))
            };
            let (Ok((length, media_time)), Ok(_rate)) = (entry, bytes.u32_be()) else { break };
            let length = length as f64 / movie_scale;
            match (media_time, begun) {
                (..0, None) => delay += length,
                (0.., None) => {
                    self.shift = delay - media_time as f64 / media_scale;
                    self.end = (length > 0.0).then_some(delay + length);
                    begun = Some(());
                }
                // Cut in several places, which speech files are not: play on from the first.
                (_, Some(())) => self.end = None,
            }
        }
    }
}

/// What iTunes noted.
#[derive(Debug, Clone, Copy)]
struct Gapless {
    delay_samples: u32,
    samples: u64,
}

fn itunes_note(meta: &[u8]) -> Option<Gapless> {
    // `meta` has a version in front of its boxes, but not in QuickTime files.
    let list = find(meta.get(4..)?, &[b"ilst"]).or_else(|| find(meta, &[b"ilst"]))?;
    let note = boxes(list).find(|(kind, body)| {
        kind == b"----" && find(body, &[b"name"]).is_some_and(|name| name.ends_with(b"iTunSMPB"))
    })?;
    let text = find(note.1, &[b"data"])?.get(8..)?;
    let text = std::str::from_utf8(text.get(..text.len().min(200))?).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(|word| u64::from_str_radix(word, 16));
    let delay_samples = u32::try_from(numbers.nth(1)?.ok()?).ok()?;
    let samples = numbers.nth(1)?.ok()?;
    (samples > 0).then_some(Gapless { delay_samples, samples })
}

/// The file with an empty `ftyp` box behind its end.
pub(super) struct WithFileType {
    media: Media,
    suffix: Cursor<&'static [u8]>,
    position: u64,
}

impl WithFileType {
    pub(super) fn new(media: &Media) -> Self {
        let suffix = Cursor::new(b"\0\0\0\x10ftypqt  \0\0\0\0".as_slice());
        Self { media: media.rewound(), suffix, position: 0 }
    }

    fn size_bytes(&self) -> u64 {
        self.media.size_bytes() + self.suffix.get_ref().len() as u64
    }
}

impl Read for WithFileType {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.position.checked_sub(self.media.size_bytes()) {
            None => {
                self.media.seek(SeekFrom::Start(self.position))?;
                self.media.read(buffer)?
            }
            Some(beyond) => {
                self.suffix.set_position(beyond);
                self.suffix.read(buffer)?
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for WithFileType {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size_bytes().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl symphonia::core::io::MediaSource for WithFileType {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.size_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let size = (body.len() + 8) as u32;
        [&size.to_be_bytes(), kind.as_slice(), body].concat()
    }

    fn list(entries: &[(u32, i32)]) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend((entries.len() as u32).to_be_bytes());
        for (length, media_time) in entries {
            body.extend(length.to_be_bytes());
            body.extend(media_time.to_be_bytes());
            body.extend([0, 1, 0, 0]);
        }
        body
    }

    #[test]
    fn an_edit_list_cuts_priming_and_delays_a_late_start() {
        let mut late = Presentation::default();
        late.edit(&list(&[(2_000, -1), (5_000, 4_410)]), 1_000.0, 44_100.0);
        assert!((late.shift - 1.9).abs() < 1e-9, "{late:?}");
        assert_eq!(late.end, Some(7.0));
    }

    #[test]
    fn an_edit_list_that_claims_more_than_it_holds_is_read_as_far_as_it_goes() {
        let mut bytes = list(&[(1_000, 441)]);
        bytes[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut presentation = Presentation::default();
        presentation.edit(&bytes, 1_000.0, 44_100.0);
        assert_eq!(presentation.end, Some(1.0));
    }

    #[test]
    fn the_note_of_itunes_is_found() {
        let text = b"\0\0\0\x01\0\0\0\0 00000000 00000840 000000D4 00000000000766EC 0 0";
        let note = [make(b"name", b"\0\0\0\0iTunSMPB"), make(b"data", text)].concat();
        let meta = [vec![0; 4], make(b"ilst", &make(b"----", &note))].concat();
        let gapless = itunes_note(&meta).unwrap();
        assert_eq!((gapless.delay_samples, gapless.samples), (2_112, 485_100));
    }
}
