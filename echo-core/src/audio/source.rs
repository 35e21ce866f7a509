//! Where sound comes from: a path, bytes, a reader, or samples that are decoded already.
//!
//! An [`AudioSource`] only says *where*; opening it gives a [`Media`], a cheaply shared handle on
//! the bytes. Each clone has its own position, so that one parser may look at the head of a file
//! while another is yet to read it, and so that a source can be decoded a second time. Nothing but
//! the named file is ever opened: playlists and other files that point elsewhere are not followed.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Audio;
use crate::error::{Error, Result};

/// What a source of bytes must be able to do.
pub(crate) trait ReadSeek: Read + Seek + Send + Sync {}
impl<T: Read + Seek + Send + Sync> ReadSeek for T {}

/// Something sound can be read from.
///
/// ```
/// use echo_core::audio::{Audio, AudioSource};
///
/// let from_path = AudioSource::from("interview.mp4");
/// let from_samples = AudioSource::from(Audio::from_samples(vec![0.0; 4_800], 48_000)?);
/// assert_eq!(from_path.to_string(), "interview.mp4");
/// assert_eq!(from_samples.to_string(), "1,600 samples");
/// # Ok::<(), echo_core::Error>(())
/// ```
pub struct AudioSource {
    input: Input,
    raw: Option<RawFormat>,
    max_seconds: f64,
}

enum Input {
    Path(PathBuf),
    Bytes(Vec<u8>),
    Reader(Box<dyn ReadSeek>),
    Audio(Audio),
}

/// How headerless samples are written, for [`AudioSource::raw`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RawEncoding {
    /// Unsigned bytes.
    U8,
    /// Signed 16-bit integers, least significant byte first.
    S16Le,
    /// Signed 16-bit integers, most significant byte first.
    S16Be,
    /// Signed 24-bit integers, least significant byte first.
    S24Le,
    /// Signed 32-bit integers, least significant byte first.
    S32Le,
    /// 32-bit floats, least significant byte first.
    F32Le,
    /// G.711 µ-law bytes.
    MuLaw,
    /// G.711 A-law bytes.
    ALaw,
    /// G.722 at 64 kbit/s: always one channel at 16,000 Hz.
    G722,
}

/// Everything a header would have said.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawFormat {
    pub(super) sample_rate_hz: u32,
    pub(super) channels: u16,
    pub(super) encoding: RawEncoding,
}

impl AudioSource {
    /// An encoded file behind a reader; it is read from its start to its end.
    pub fn reader<R: Read + Seek + Send + Sync + 'static>(reader: R) -> Self {
        Input::Reader(Box::new(reader)).into()
    }

    /// Interleaved samples without any header, as telephony and recorders write them.
    ///
    /// ```
    /// use echo_core::audio::{Audio, AudioSource, RawEncoding};
    ///
    /// let second = vec![0x80_u8; 8_000];
    /// let audio = Audio::load(AudioSource::raw(second, 8_000, 1, RawEncoding::U8))?;
    /// assert_eq!(audio.duration(), 1.0);
    /// # Ok::<(), echo_core::Error>(())
    /// ```
    pub fn raw(
        source: impl Into<AudioSource>,
        sample_rate_hz: u32,
        channels: u16,
        encoding: RawEncoding,
    ) -> Self {
        let raw = Some(RawFormat { sample_rate_hz, channels, encoding });
        Self { raw, ..source.into() }
    }

    /// Refuses the source once more than so many seconds of it are decoded: a few kilobytes may stand
    /// for days of silence, and headers need not tell. Without a limit (the default) all is decoded.
    ///
    /// ```
    /// use echo_core::audio::{Audio, AudioSource, RawEncoding, TooLong};
    ///
    /// let ten_seconds = AudioSource::raw(vec![0x80_u8; 80_000], 8_000, 1, RawEncoding::U8);
    /// let error = Audio::load(ten_seconds.max_seconds(5.0)).unwrap_err();
    /// assert!(TooLong::is_why(&error));
    /// ```
    pub fn max_seconds(mut self, seconds: f64) -> Self {
        self.max_seconds = seconds;
        self
    }

    /// Opens the source.
    pub(super) fn open(self) -> Result<Opened> {
        let (origin, max_seconds) = (self.to_string(), self.max_seconds);
        let (reader, path): (Box<dyn ReadSeek>, _) = match self.input {
            Input::Audio(audio) if audio.duration() > max_seconds => {
                return Err(TooLong { max_seconds }.of(origin));
            }
            Input::Audio(audio) => return Ok(Opened::Audio(audio)),
            Input::Bytes(bytes) => (Box::new(Cursor::new(bytes)), None),
            Input::Reader(reader) => (reader, None),
            Input::Path(path) => (open_file(&path)?, Some(path)),
        };
        let media = Media::new(reader).map_err(|source| match &path {
            Some(path) => Error::io(path, source),
            None => Error::Audio {
                origin: origin.clone(),
                reason: "its length cannot be found".into(),
                source: Some(source.into()),
            },
        })?;
        let hint = path.as_deref().and_then(hint);
        Ok(Opened::Media(OpenedMedia { media, path, origin, raw: self.raw, hint, max_seconds }))
    }
}

/// Why a source with [`AudioSource::max_seconds`] was refused: the cause of its
/// [`Error::Audio`](crate::Error::Audio).
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("more than {max_seconds:.0} s of sound")]
#[non_exhaustive]
pub struct TooLong {
    /// What was allowed.
    pub max_seconds: f64,
}

impl TooLong {
    /// Whether an error says that a source was longer than allowed.
    pub fn is_why(error: &Error) -> bool {
        matches!(error, Error::Audio { source: Some(cause), .. } if cause.is::<Self>())
    }

    /// The error of a source that is known by this name.
    pub(super) fn of(self, origin: impl Into<String>) -> Error {
        let reason = "it is longer than allowed".to_owned();
        Error::Audio { origin: origin.into(), reason, source: Some(self.into()) }
    }
}

/// A source after opening.
pub(super) enum Opened {
    Audio(Audio),
    Media(OpenedMedia),
}

/// The bytes of a source with all that is known about them.
pub(super) struct OpenedMedia {
    pub(super) media: Media,
    pub(super) path: Option<PathBuf>,
    /// As error messages name the source.
    pub(super) origin: String,
    pub(super) raw: Option<RawFormat>,
    /// What its name suggests, should its content be of no known kind.
    pub(super) hint: Option<RawFormat>,
    /// More than so much of it is not decoded.
    pub(super) max_seconds: f64,
}

/// Formats without a header that go by a name of their own.
fn hint(path: &Path) -> Option<RawFormat> {
    let is_g722 = path.extension()?.eq_ignore_ascii_case("g722");
    let encoding = RawEncoding::G722;
    is_g722.then_some(RawFormat { sample_rate_hz: 16_000, channels: 1, encoding })
}

fn open_file(path: &Path) -> Result<Box<dyn ReadSeek>> {
    let failed = |source| Error::io(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    if metadata.is_file() {
        return Ok(Box::new(file));
    }
    // A pipe cannot be rewound, and most containers need that: its bytes are kept.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Box::new(Cursor::new(bytes)))
}

impl From<Input> for AudioSource {
    fn from(input: Input) -> Self {
        Self { input, raw: None, max_seconds: f64::INFINITY }
    }
}

impl From<&str> for AudioSource {
    fn from(path: &str) -> Self {
        Input::Path(path.into()).into()
    }
}

impl From<String> for AudioSource {
    fn from(path: String) -> Self {
        Input::Path(path.into()).into()
    }
}

impl From<&Path> for AudioSource {
    fn from(path: &Path) -> Self {
        Input::Path(path.into()).into()
    }
}

impl From<PathBuf> for AudioSource {
    fn from(path: PathBuf) -> Self {
        Input::Path(path).into()
    }
}

impl From<&PathBuf> for AudioSource {
    fn from(path: &PathBuf) -> Self {
        Input::Path(path.clone()).into()
    }
}

impl From<Vec<u8>> for AudioSource {
    fn from(encoded_file: Vec<u8>) -> Self {
        Input::Bytes(encoded_file).into()
    }
}

impl From<Audio> for AudioSource {
    fn from(audio: Audio) -> Self {
        Input::Audio(audio).into()
    }
}

/// The path, or what else is known, such as `4,096 bytes`: as error messages name it.
impl fmt::Display for AudioSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.input {
            Input::Path(path) => write!(formatter, "{}", path.display()),
            Input::Bytes(bytes) => write!(formatter, "{} bytes", grouped(bytes.len())),
            Input::Reader(_) => formatter.write_str("a reader"),
            Input::Audio(audio) => {
                write!(formatter, "{} samples", grouped(audio.samples().len()))
            }
        }
    }
}

impl fmt::Debug for AudioSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AudioSource({self})")
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A handle on the bytes of a source, with a position of its own.
pub(super) struct Media {
    shared: Arc<Shared>,
    position: u64,
    claim: Claim,
}

/// What a handle tells symphonia about its source. Its readers refuse a structure that reaches
/// beyond the end of a file, although all that is there of a truncated file could be read.
#[derive(Debug, Clone, Copy)]
enum Claim {
    Truth,
    /// That the file is this long.
    Size(u64),
    /// That it is a stream, without an end that is known and without a way back.
    Stream,
}

struct Shared {
    reader: Mutex<Reader>,
    size_bytes: u64,
    /// The furthest byte read so far: the measure of progress.
    furthest: AtomicU64,
}

struct Reader {
    inner: Box<dyn ReadSeek>,
    position: u64,
    failure: Option<io::Error>,
}

impl Media {
    pub(super) fn new(mut inner: Box<dyn ReadSeek>) -> io::Result<Self> {
        let size_bytes = inner.seek(SeekFrom::End(0))?;
        let reader = Mutex::new(Reader { inner, position: size_bytes, failure: None });
        let shared = Arc::new(Shared { reader, size_bytes, furthest: AtomicU64::new(0) });
        Ok(Self { shared, position: 0, claim: Claim::Truth })
    }

    /// Another handle at the first byte.
    pub(super) fn rewound(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), position: 0, claim: Claim::Truth }
    }

    /// Another handle, for which the file appears to be longer than it is.
    pub(super) fn stretched(&self, size_bytes: u64) -> Self {
        Self { claim: Claim::Size(size_bytes.max(self.size_bytes())), ..self.rewound() }
    }

    /// Another handle, for which the file appears to be a stream.
    pub(super) fn streamed(&self) -> Self {
        Self { claim: Claim::Stream, ..self.rewound() }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.shared.size_bytes
    }

    /// The share of the bytes that has been read at least once, 0 to 1.
    pub(super) fn fraction_read(&self) -> f64 {
        let furthest = self.shared.furthest.load(Ordering::Relaxed);
        furthest as f64 / self.shared.size_bytes.max(1) as f64
    }

    /// What the operating system answered when a read failed. Decoders report a failed read as
    /// they report damaged data; this tells the two apart.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.lock().failure.take()
    }

    fn lock(&self) -> MutexGuard<'_, Reader> {
        // A panic inside a read leaves no state that the next seek would not repair.
        self.shared.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Media {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut reader = self.shared.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = reader.read_at(self.position, buffer);
        match answer {
            Ok(count) => {
                self.position += count as u64;
                self.shared.furthest.fetch_max(self.position, Ordering::Relaxed);
                Ok(count)
            }
            Err(failure) => {
                let kind = failure.kind();
                if kind != io::ErrorKind::Interrupted {
                    reader.failure = Some(failure);
                }
                Err(kind.into())
            }
        }
    }
}

impl Reader {
    fn read_at(&mut self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position != position {
            self.inner.seek(SeekFrom::Start(position))?;
            self.position = position;
        }
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Media {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => match self.claim {
                Claim::Size(size_bytes) => size_bytes.checked_add_signed(offset),
                _ => self.shared.size_bytes.checked_add_signed(offset),
            },
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl symphonia::core::io::MediaSource for Media {
    fn is_seekable(&self) -> bool {
        !matches!(self.claim, Claim::Stream)
    }

    fn byte_len(&self) -> Option<u64> {
        match self.claim {
            Claim::Truth => Some(self.shared.size_bytes),
            Claim::Size(size_bytes) => Some(size_bytes),
            Claim::Stream => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_on_one_source_have_positions_of_their_own() {
        let mut first = Media::new(Box::new(Cursor::new(vec![1, 2, 3, 4]))).unwrap();
        let mut second = first.rewound();
        let mut pair = [0; 2];
        first.read_exact(&mut pair).unwrap();
        second.read_exact(&mut pair[..1]).unwrap();
        first.read_exact(&mut pair).unwrap();
        assert_eq!(pair, [3, 4]);
        assert_eq!(second.position, 1);
        assert_eq!(second.fraction_read(), 1.0);
    }

    #[test]
    fn sources_are_named_as_people_would() {
        assert_eq!(AudioSource::from(vec![0; 1_234_567]).to_string(), "1,234,567 bytes");
        assert_eq!(AudioSource::from(Path::new("a/b.wav")).to_string(), "a/b.wav");
    }

    #[test]
    fn a_source_longer_than_allowed_is_refused_and_says_so() {
        let second = || AudioSource::raw(vec![0x80_u8; 8_000], 8_000, 1, RawEncoding::U8);
        assert_eq!(Audio::load(second().max_seconds(1.0)).unwrap().duration(), 1.0);
        let decoded = AudioSource::from(Audio::load(second()).unwrap());
        for source in [second(), decoded] {
            let error = Audio::load(source.max_seconds(0.99)).unwrap_err();
            assert!(TooLong::is_why(&error), "{error}");
            assert_eq!(error.kind(), crate::ErrorKind::Audio);
        }
        let other = AudioSource::from(b"neither sound nor film".to_vec());
        assert!(!TooLong::is_why(&Audio::load(other.max_seconds(1.0)).unwrap_err()));
    }

    #[test]
    fn a_missing_file_and_a_folder_are_io_errors() {
        for path in ["/nowhere/at/all.wav", "/"] {
            let Err(error) = AudioSource::from(path).open() else { panic!("{path} was opened") };
            assert_eq!(error.kind(), crate::ErrorKind::Io, "{error}");
        }
    }
}
