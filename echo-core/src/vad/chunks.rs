//! Regions merged into chunks that fit one window of the recogniser.
//!
//! As in WhisperX, a chunk is one contiguous piece of the source from its first region's start to its
//! last one's end, so that times inside it are times of the source. Unlike there, a long silence
//! ends a chunk even if more would fit: the recogniser should not spend its window, or its fancy, on
//! silence.

use crate::timeline::Region;

/// Silence of this length and more is not given to the recogniser.
pub(crate) const MAX_SILENCE_SECONDS: f64 = 2.0;

/// What the recogniser hears at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chunk {
    /// From the first region's start to the last one's end.
    pub(crate) span: Region,
    /// Where speech is in it, in order; never empty.
    pub(crate) regions: Vec<Region>,
}

/// Merges regions, which are in order, into chunks of at most `max_chunk_seconds`. A region that is
/// longer by itself is cut into equal parts.
pub(crate) fn chunks(regions: &[Region], max_chunk_seconds: f64) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for region in regions {
        // Tolerates the rounding of seconds, which is far below a sample.
        let parts = (region.duration() / max_chunk_seconds - 1e-9).ceil().max(1.0);
        for part in 0..parts as usize {
            let at = |part: f64| region.start + region.duration() * part / parts;
            let region = Region::new(at(part as f64), at(part as f64 + 1.0));
            match chunks.last_mut() {
                Some(chunk)
                    if region.end - chunk.span.start <= max_chunk_seconds + 1e-9
                        && region.start - chunk.span.end < MAX_SILENCE_SECONDS =>
                {
                    chunk.span.end = region.end;
                    chunk.regions.push(region);
                }
                _ => chunks.push(Chunk { span: region, regions: vec![region] }),
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(regions: &[(f64, f64)], most: f64) -> Vec<(f64, f64)> {
        let regions: Vec<Region> = regions.iter().map(|&(s, e)| Region::new(s, e)).collect();
        chunks(&regions, most).iter().map(|chunk| (chunk.span.start, chunk.span.end)).collect()
    }

    #[test]
    fn regions_are_merged_while_they_fit() {
        let regions = [(1.0, 11.0), (12.0, 30.0), (30.5, 31.0), (32.0, 40.0)];
        assert_eq!(spans(&regions, 30.0), [(1.0, 31.0), (32.0, 40.0)]);
    }

    #[test]
    fn a_long_silence_ends_a_chunk() {
        assert_eq!(spans(&[(0.0, 1.0), (3.0, 4.0), (5.9, 7.0)], 30.0), [(0.0, 1.0), (3.0, 7.0)]);
    }

    #[test]
    fn a_region_longer_than_a_chunk_is_cut_evenly() {
        assert_eq!(spans(&[(0.0, 25.0)], 10.0).len(), 3);
        assert_eq!(spans(&[(0.0, 10.0)], 10.0), [(0.0, 10.0)]);
        assert!(spans(&[], 10.0).is_empty());
    }

    #[test]
    fn every_region_is_in_one_chunk() {
        let regions: Vec<Region> = (0..100)
            .map(|at| Region::new(f64::from(at) * 3.0, f64::from(at) * 3.0 + 2.0))
            .collect();
        let chunks = chunks(&regions, 30.0);
        let kept: Vec<Region> = chunks.iter().flat_map(|chunk| chunk.regions.clone()).collect();
        assert_eq!(kept, regions);
        assert_eq!(chunks.len(), 10);
    }
}
