//! How far a download is.

/// One report of a download's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Download {
    /// The model that was asked for.
    pub model: String,
    /// Where it comes from, such as `Hugging Face Hub (Systran/faster-whisper-base)`.
    pub source: String,
    /// The file at work.
    pub file: String,
    /// Bytes of the whole model that are here, those of an earlier attempt included.
    pub done_bytes: u64,
    /// Bytes of the whole model, if the source says.
    pub total_bytes: Option<u64>,
}

/// Counts bytes and reports them.
pub(crate) struct Meter<'a> {
    state: Download,
    report: &'a mut dyn FnMut(&Download),
    /// Bytes of the files before the one at work.
    before: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(model: &str, report: &'a mut dyn FnMut(&Download)) -> Self {
        let state = Download {
            model: model.to_owned(),
            source: String::new(),
            file: String::new(),
            done_bytes: 0,
            total_bytes: None,
        };
        Self { state, report, before: 0 }
    }

    /// Starts over with another source.
    pub(crate) fn start(&mut self, source: &str, total_bytes: Option<u64>) {
        source.clone_into(&mut self.state.source);
        self.state.total_bytes = total_bytes;
        self.state.done_bytes = 0;
        self.before = 0;
    }

    /// Goes on to the next file.
    pub(crate) fn next_file(&mut self, file: &str) {
        file.clone_into(&mut self.state.file);
        self.before = self.state.done_bytes;
    }

    /// So many bytes of the file at work are here; fewer than before if it started over.
    pub(crate) fn at(&mut self, file_bytes: u64) {
        self.state.done_bytes = self.before + file_bytes;
        (self.report)(&self.state);
    }
}
