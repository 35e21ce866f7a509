//! What may be chosen next, and the likeliest of it: the end of a decoder step.
//!
//! A step makes 50,000 logits for each hypothesis, of which a search wants a few. A device that can
//! leaves out what the rules forbid and finds them itself, so that no logits are copied.

use std::ops::Range;

/// What one hypothesis may not say next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Restriction {
    /// Tokens that are out, whatever their logits. Ranges may overlap and be empty.
    pub(crate) forbidden: Vec<Range<u32>>,
    /// If these tokens together are likelier than any single other one, the others are out too. It
    /// applies to what is not forbidden. Times, which are one choice cut into many.
    pub(crate) group: Option<Range<u32>>,
}

/// The likeliest of what may be said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ranked {
    /// `ln(sum(exp(logits)))` over what may be said.
    pub(crate) log_sum_exp: f32,
    /// Tokens with their logits, likeliest first, of equals the lower token first; none that is
    /// minus infinity.
    pub(crate) likeliest: Vec<(u32, f32)>,
}
