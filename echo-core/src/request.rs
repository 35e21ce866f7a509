//! One run: its source, options, progress and cancellation.
