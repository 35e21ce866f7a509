//! From the channels of a source to the channels that are heard, at 16 kHz.
//!
//! A mix is the mean of all channels. Two cases need a second look, which only the whole source
//! allows: channels that are silent throughout (a stereo recording of one microphone, 5.1 sound
//! with speech in the centre only) make the mean too faint, so it is scaled up to the mean of the
//! others; and channels that cancel each other out (one wired the wrong way round) leave a mean of
//! nothing, so the loudest channel is heard instead, for which the source is decoded again.

use super::codecs::Frames;
use super::containers::Fault;
use super::levels;
use super::resample::{RATES_HZ, Resampler, append_silence};
use crate::options::Channels;

/// More than any microphone array; a header that claims more is damaged.
pub(super) const MAX_CHANNELS: usize = 64;

/// A channel this much weaker than the loudest one is silent (-50 dB, as power).
const SILENT_SHARE: f64 = 1e-5;

/// A mean this much weaker than the loudest channel has cancelled itself out (-26 dB, as power).
/// Independent channels lose 3 dB for each doubling of their number: 64 of them lose 18 dB.
const CANCELLED_SHARE: f64 = 2.5e-3;

/// Collects the sound of one track.
pub(super) struct Downmix {
    channels: Channels,
    outputs: Vec<Output>,
    sample_rate_hz: u32,
    mixed: Vec<f32>,
    /// Sums of squares, for each channel and for their mean.
    channel_energies: Vec<f64>,
    mix_energy: f64,
    /// Samples of silence, at 16 kHz, that came before it was known how many outputs there are.
    silence_before: usize,
}

struct Output {
    resampler: Option<Resampler>,
    samples: Vec<f32>,
}

/// What came out.
pub(super) enum Mixed {
    Samples(Vec<Vec<f32>>),
    /// The mean is empty: decode again and hear this channel.
    Cancelled {
        loudest_channel: u16,
    },
}

impl Downmix {
    pub(super) fn new(channels: Channels) -> Self {
        Self {
            channels,
            outputs: Vec::new(),
            sample_rate_hz: 0,
            mixed: Vec::new(),
            channel_energies: Vec::new(),
            mix_energy: 0.0,
            silence_before: 0,
        }
    }

    /// The channels of the source, as far as they are known.
    pub(super) fn channel_count(&self) -> usize {
        self.channel_energies.len()
    }

    /// Adds samples `from..to` of decoded frames; rate and channel count may change between calls.
    pub(super) fn push(
        &mut self,
        frames: &mut Frames,
        from: usize,
        to: usize,
    ) -> Result<(), Fault> {
        let channel_count = frames.channels.len();
        if !(1..=MAX_CHANNELS).contains(&channel_count) {
            return Err(Fault::Damaged(format!("{channel_count} channels, expected 1 to 64")));
        }
        let to = to.min(frames.len());
        if from >= to {
            return Ok(());
        }
        self.use_rate(frames.sample_rate_hz)?;
        for (channel, samples) in frames.channels.iter_mut().enumerate() {
            levels::remove_nonsense(&mut samples[from..to]);
            if self.channel_energies.len() <= channel {
                self.channel_energies.push(0.0);
            }
            self.channel_energies[channel] += energy(&samples[from..to]);
        }
        match self.channels {
            Channels::Mix => self.push_mean(frames, from, to),
            Channels::One(channel) => {
                // A stream that loses the channel half-way is silent there.
                let heard = frames.channels.get(usize::from(channel)).map(|c| &c[from..to]);
                self.push_output(0, heard, to - from);
            }
            Channels::Each => {
                // The first packet says how many there are.
                let is_first = self.outputs.is_empty();
                let output_count = if is_first { channel_count } else { self.outputs.len() };
                for channel in 0..output_count {
                    let heard = frames.channels.get(channel).map(|c| &c[from..to]);
                    self.push_output(channel, heard, to - from);
                }
            }
        }
        Ok(())
    }

    fn push_mean(&mut self, frames: &Frames, from: usize, to: usize) {
        let mut mixed = std::mem::take(&mut self.mixed);
        mixed.clear();
        mixed.resize(to - from, 0.0);
        let scale = 1.0 / frames.channels.len() as f32;
        for channel in &frames.channels {
            for (sum, sample) in mixed.iter_mut().zip(&channel[from..to]) {
                *sum += sample * scale;
            }
        }
        self.mix_energy += energy(&mixed);
        self.push_output(0, Some(&mixed), mixed.len());
        self.mixed = mixed;
    }

    fn push_output(&mut self, index: usize, samples: Option<&[f32]>, length: usize) {
        if self.outputs.len() <= index {
            let samples = vec![0.0; self.silence_before];
            self.outputs.push(Output { resampler: None, samples });
        }
        let output = &mut self.outputs[index];
        let rate = self.sample_rate_hz;
        let resampler = output.resampler.get_or_insert_with(|| Resampler::new(rate));
        match samples {
            Some(samples) => resampler.push(samples, &mut output.samples),
            None => resampler.push(&vec![0.0; length], &mut output.samples),
        }
    }

    /// Adds silence at 16 kHz to every output, also before the first sample.
    pub(super) fn push_silence(&mut self, count: usize) {
        self.finish_rate();
        if self.outputs.is_empty() {
            self.silence_before += count;
        }
        for output in &mut self.outputs {
            append_silence(&mut output.samples, count);
        }
    }

    fn use_rate(&mut self, sample_rate_hz: u32) -> Result<(), Fault> {
        if !RATES_HZ.contains(&sample_rate_hz) {
            let (low, high) = (RATES_HZ.start(), RATES_HZ.end());
            let reason = format!("sample rate is {sample_rate_hz} Hz, expected {low} to {high}");
            return Err(Fault::Damaged(reason));
        }
        if self.sample_rate_hz != sample_rate_hz {
            self.finish_rate();
            self.sample_rate_hz = sample_rate_hz;
        }
        Ok(())
    }

    fn finish_rate(&mut self) {
        for output in &mut self.outputs {
            if let Some(mut resampler) = output.resampler.take() {
                resampler.finish(&mut output.samples);
            }
        }
    }

    /// The outputs, or the advice to decode again.
    pub(super) fn finish(mut self) -> Mixed {
        self.finish_rate();
        let mut outputs: Vec<_> = self.outputs.into_iter().map(|output| output.samples).collect();
        let channel_count = self.channel_energies.len();
        if matches!(self.channels, Channels::Mix) && channel_count > 1 {
            let loudest = self.channel_energies.iter().copied().enumerate();
            let (loudest, most) = loudest.fold((0, 0.0), |a, b| if b.1 > a.1 { b } else { a });
            let is_heard = |energy: &&f64| **energy > most * SILENT_SHARE;
            let heard_count = self.channel_energies.iter().filter(is_heard).count().max(1);
            let gain = channel_count as f64 / heard_count as f64;
            if self.mix_energy * gain * gain < most * CANCELLED_SHARE {
                return Mixed::Cancelled { loudest_channel: loudest as u16 };
            }
            if gain > 1.0 {
                let samples = outputs.iter_mut().flatten();
                samples.for_each(|sample| *sample *= gain as f32);
            }
        }
        outputs.iter_mut().for_each(Vec::shrink_to_fit);
        Mixed::Samples(outputs)
    }
}

fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample) * f64::from(*sample)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(channels: &[&[f32]]) -> Frames {
        let channels = channels.iter().map(|channel| channel.to_vec()).collect();
        Frames { sample_rate_hz: 16_000, channels }
    }

    fn mixed(channels: Channels, pieces: &[&[&[f32]]]) -> Mixed {
        let mut downmix = Downmix::new(channels);
        for piece in pieces {
            let mut frames = frames(piece);
            let length = frames.len();
            downmix.push(&mut frames, 0, length).unwrap();
        }
        downmix.finish()
    }

    fn outputs(mixed: Mixed) -> Vec<Vec<f32>> {
        let Mixed::Samples(outputs) = mixed else { panic!("cancelled") };
        outputs
    }

    #[test]
    fn a_mix_is_the_mean_of_the_channels_that_are_not_silent() {
        let both = mixed(Channels::Mix, &[&[&[0.5, -0.5, 0.1], &[0.5, 0.1, 0.3]]]);
        assert_eq!(outputs(both), [[0.5, -0.2, 0.2]]);
        let centre_only = mixed(Channels::Mix, &[&[&[0.0; 2], &[0.0; 2], &[0.5, -0.5], &[0.0; 2]]]);
        assert_eq!(outputs(centre_only), [[0.5, -0.5]]);
    }

    #[test]
    fn channels_that_cancel_are_told_apart_from_silence() {
        let opposite = mixed(Channels::Mix, &[&[&[0.4, -0.5], &[-0.4, 0.5001]]]);
        assert!(matches!(opposite, Mixed::Cancelled { loudest_channel: 1 }));
        assert_eq!(outputs(mixed(Channels::Mix, &[&[&[0.0], &[0.0]]])), [[0.0]]);
    }

    #[test]
    fn each_channel_comes_out_by_itself_after_a_late_start() {
        let mut downmix = Downmix::new(Channels::Each);
        downmix.push_silence(2);
        let mut frames = frames(&[&[0.1, 0.2, 0.3], &[0.4, 0.5, 0.6]]);
        downmix.push(&mut frames, 1, 3).unwrap();
        assert_eq!(outputs(downmix.finish()), [[0.0, 0.0, 0.2, 0.3], [0.0, 0.0, 0.5, 0.6]]);
    }

    #[test]
    fn absurd_rates_and_channel_counts_are_refused() {
        let mut many = Frames { sample_rate_hz: 16_000, channels: vec![vec![0.0]; 65_535] };
        assert!(Downmix::new(Channels::Mix).push(&mut many, 0, 1).is_err());
        let mut fast = frames(&[&[0.0]]);
        fast.sample_rate_hz = u32::MAX;
        assert!(Downmix::new(Channels::Mix).push(&mut fast, 0, 1).is_err());
    }
}
