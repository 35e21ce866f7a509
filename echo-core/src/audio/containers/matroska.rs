//! What symphonia leaves out of Matroska and WebM files: that a track is a default one unless its
//! header says otherwise, and the names of codecs it does not know.
//!
//! A file is a tree of elements (EBML, RFC 8794): number, size, content. Element numbers: RFC 9559.

use super::Fault;
use super::bytes::Bytes;
use crate::audio::source::Media;

const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_ae6b;
const CLUSTER: u32 = 0x1f43_b675;
const TRACK_ENTRY: u32 = 0xae;
const TRACK_NUMBER: u32 = 0xd7;
const TRACK_TYPE: u32 = 0x83;
const FLAG_DEFAULT: u32 = 0x88;
const CODEC_ID: u32 = 0x86;

const TYPE_AUDIO: u64 = 2;

/// Elements in front of the clusters, and bytes of the list of tracks, that are looked at.
const MAX_ELEMENTS: u32 = 1_000;
const MAX_TRACKS_BYTES: u64 = 16 << 20;

/// An audio track as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrackHeader {
    pub(super) id: u32,
    pub(super) is_default: bool,
    /// Such as `A_OPUS`.
    pub(super) codec: String,
}

/// The head of a file.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Empty where they cannot be found.
    pub(super) audio_tracks: Vec<TrackHeader>,
    /// Whether the file is shorter than it says.
    pub(super) is_truncated: bool,
}

/// Reads the head of a file.
pub(super) fn head(media: &Media) -> Result<Head, Fault> {
    let mut media = media.rewound();
    let mut found = Head::default();
    let mut position = 0;
    for _ in 0..MAX_ELEMENTS {
        let header = media.read_at(position, 12)?;
        let mut bytes = Bytes::new(&header);
        let Ok((id, size)) = element(&mut bytes) else { break };
        let content = position + (header.len() - bytes.rest().len()) as u64;
        match (id, size) {
            // Entered, whatever size it claims.
            (SEGMENT, size) => {
                let end = size.map_or(0, |size| content.saturating_add(size));
                found.is_truncated = end > media.size_bytes();
                position = content;
            }
            (CLUSTER, _) | (_, None) => break,
            (TRACKS, Some(size)) => {
                let list = media.read_at(content, size.min(MAX_TRACKS_BYTES) as usize)?;
                found.audio_tracks = elements(&list).filter_map(track).collect();
                break;
            }
            (_, Some(size)) => position = content.saturating_add(size),
        }
    }
    Ok(found)
}

fn track((id, content): (u32, &[u8])) -> Option<TrackHeader> {
    if id != TRACK_ENTRY {
        return None;
    }
    let mut header = TrackHeader { id: 0, is_default: true, codec: String::new() };
    let mut is_audio = false;
    for (id, value) in elements(content) {
        match id {
            TRACK_NUMBER => header.id = u32::try_from(number(value)).ok()?,
            TRACK_TYPE => is_audio = number(value) == TYPE_AUDIO,
            FLAG_DEFAULT => header.is_default = number(value) == 1,
            CODEC_ID => header.codec = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    is_audio.then_some(header)
}

/// The elements in a content, as far as they are whole.
fn elements(content: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut bytes = Bytes::new(content);
    std::iter::from_fn(move || {
        let (id, size) = element(&mut bytes).ok()?;
        let size = usize::try_from(size?).ok()?;
        Some((id, bytes.take(size).ok()?))
    })
}

/// Number and size of an element; no size means: up to the end of what it is in.
fn element(bytes: &mut Bytes<'_>) -> Result<(u32, Option<u64>), Fault> {
    // The zeros in front say how many bytes follow. In the number they stay, in the size they go.
    let first = bytes.u8()?;
    let id_bytes = first.leading_zeros();
    if id_bytes > 3 {
        return Err(Fault::Damaged("an element number of more than 4 bytes".into()));
    }
    let mut id = u32::from(first);
    for _ in 0..id_bytes {
        id = id << 8 | u32::from(bytes.u8()?);
    }
    let first = bytes.u8()?;
    let size_bytes = first.leading_zeros();
    if size_bytes > 7 {
        return Err(Fault::Damaged("an element size of more than 8 bytes".into()));
    }
    let mut size = u64::from(first) & (0x7f >> size_bytes);
    for _ in 0..size_bytes {
        size = size << 8 | u64::from(bytes.u8()?);
    }
    let unknown = (1 << (7 * (size_bytes + 1))) - 1;
    Ok((id, (size != unknown).then_some(size)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_track_is_a_default_one_unless_it_says_no() {
        let speech = b"\xae\x8e\xd7\x81\x03\x83\x81\x02\x86\x86A_OPUS";
        let tone = b"\xae\x91\xd7\x81\x02\x88\x81\x00\x83\x81\x02\x86\x86A_OPUS";
        let picture = b"\xae\x86\xd7\x81\x01\x83\x81\x01";
        let list = [picture.as_slice(), tone, speech].concat();
        // A segment of unknown size, as a browser records it.
        let file = [
            b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff".as_slice(),
            &[0x16, 0x54, 0xae, 0x6b, 0x80 | list.len() as u8],
            &list,
        ];
        let media = Media::new(Box::new(Cursor::new(file.concat()))).unwrap();
        let header = |id, is_default| TrackHeader { id, is_default, codec: "A_OPUS".to_owned() };
        let head = head(&media).unwrap();
        assert_eq!(head.audio_tracks, [header(2, false), header(3, true)]);
        assert!(!head.is_truncated);
    }
}
