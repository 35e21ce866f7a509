//! A loaded model that transcribes.
