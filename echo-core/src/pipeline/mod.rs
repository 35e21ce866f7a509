//! Joins the stages: sound in, transcript out.
