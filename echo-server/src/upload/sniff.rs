//! What a file is, by its first bytes; names and declared types are not looked at.
//!
//! Sound that is not known here still goes to the decoder, which knows more formats; only what is
//! surely something else is refused at once.

/// Beginnings of sound and video.
const SOUND: &[(usize, &[u8], &str)] = &[
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (4, b"ftyp", "audio/mp4"),
    (4, b"moov", "video/quicktime"),
    (4, b"mdat", "video/quicktime"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"FORM", "audio/aiff"),
    (0, b"caff", "audio/x-caf"),
    (0, b"#!AMR", "audio/amr"),
    (0, b"wvpk", "audio/x-wavpack"),
    (0, b"TTA1", "audio/x-tta"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "audio/x-ms-wma"),
    (0, b"\x0b\x77", "audio/ac3"),
    (0, b".snd", "audio/basic"),
];

/// Beginnings of what is surely something else.
const OTHERS: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ", "compressed with xz"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3", "a database"),
];

/// The media type, or what the bytes surely are instead.
///
/// # Errors
/// What the bytes are, as a phrase for a sentence.
pub(crate) fn media_type(head: &[u8]) -> Result<&'static str, &'static str> {
    for (offset, magic, kind) in SOUND {
        if head.get(*offset..).is_some_and(|rest| rest.starts_with(magic)) {
            return Ok(kind);
        }
    }
    for (magic, what) in OTHERS {
        if head.starts_with(magic) {
            return Err(what);
        }
    }
    if head.starts_with(b"\xff\xf1") || head.starts_with(b"\xff\xf9") {
        return Ok("audio/aac");
    }
    if let [0xff, second, ..] = head
        && second & 0xe0 == 0xe0
    {
        return Ok("audio/mpeg");
    }
    if is_text(head) { Err("text") } else { Ok("application/octet-stream") }
}

/// Whether all bytes are of UTF-8 text without control characters; a character may be cut at the end.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if head.len() - error.valid_up_to() < 4 && error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid.is_empty() && valid.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        assert_eq!(media_type(b"RIFF\x24\0\0\0WAVEfmt "), Ok("audio/wav"));
        assert_eq!(media_type(b"\0\0\0\x20ftypM4A "), Ok("audio/mp4"));
        assert_eq!(media_type(b"\xff\xfb\x90\x64"), Ok("audio/mpeg"));
        assert_eq!(media_type(b"\xff\xf1\x50\x80"), Ok("audio/aac"));
        assert_eq!(media_type(b"PK\x03\x04"), Err("a zip archive"));
        assert_eq!(media_type(b"<!DOCTYPE html>"), Err("text"));
        assert_eq!(media_type("reuni\u{e3}o".as_bytes()), Err("text"));
        assert_eq!(media_type(&[0, 1, 2, 250]), Ok("application/octet-stream"));
    }
}
