//! Transcripts as text, subtitles and tables.
