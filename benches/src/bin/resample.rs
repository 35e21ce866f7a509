//! How near Echo's decoder and resampler come to ffmpeg's: `resample [--reference DIR] FILE...`
//!
//! For each file Echo's 16 kHz samples are compared with a reference: `DIR/STEM.wav` if a folder is
//! given, else what `ffmpeg -i FILE -ac 1 -ar 16000` makes of it. The table has the difference in
//! length, the shift at which both agree best, the signal-to-difference ratio of samples, and the
//! mean and largest difference of log power, separately below and above 7 kHz (where the filters of
//! two good resamplers differ by design). Frames quieter than 80 dB below the loudest are clipped
//! there, as Whisper's features are. Below, the same for the log-mel features that Whisper sees.
#![expect(clippy::print_stdout, reason = "a program talks to its user")]

use std::path::{Path, PathBuf};
use std::process::Command;

use echo_benches::Result;
use echo_benches::arguments::Arguments;
use echo_benches::spectrum::{self, N_BINS};
use echo_core::Audio;

/// The widest shift that is looked for: 25 ms.
const MAX_SHIFT_SAMPLES: usize = 400;
/// Shifts are found in this much of the file, from its start: 30 s.
const SHIFT_SAMPLES: usize = 480_000;
/// Bins below 7 kHz; 40 Hz each.
const LOW_BINS: usize = 175;
const N_MELS: usize = 80;

fn main() -> Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1), &["reference"], &[])?;
    if arguments.rest.is_empty() {
        return Err("usage: resample [--reference DIR] FILE...".into());
    }
    let references = arguments.required("reference").ok().map(PathBuf::from);
    println!(
        "| file | samples | length | shift | S/D dB | < 7 kHz mean/max dB | > 7 kHz mean/max dB \
         | log-mel mean/max |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for file in &arguments.rest {
        let ours = Audio::load(file.as_str())?;
        let theirs = reference(Path::new(file), references.as_deref())?;
        println!("{}", row(file, ours.samples(), theirs.samples())?);
    }
    Ok(())
}

/// The file as another program decodes it.
fn reference(file: &Path, folder: Option<&Path>) -> Result<Audio> {
    if let Some(folder) = folder {
        let stem = file.file_stem().ok_or("a file has a name")?;
        return Ok(Audio::load(folder.join(stem).with_extension("wav"))?);
    }
    // Integers, because ffmpeg mixes channels down 3 dB louder for floats.
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(file)
        .args(["-ac", "1", "-ar", "16000", "-c:a", "pcm_s32le", "-f", "wav", "-"])
        .output()
        .map_err(|error| format!("ffmpeg cannot be run ({error}): give --reference DIR"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("ffmpeg cannot read {}: {reason}", file.display()).into());
    }
    Ok(Audio::load(output.stdout)?)
}

fn row(file: &str, ours: &[f32], theirs: &[f32]) -> Result<String> {
    let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shift = best_shift(ours, theirs);
    let length = ours.len() as i64 - theirs.len() as i64;
    let ours = &ours[shift.max(0) as usize..];
    let theirs = &theirs[(-shift).max(0) as usize..];
    let common = ours.len().min(theirs.len());
    let (ours, theirs) = (&ours[..common], &theirs[..common]);
    let powers = (spectrum::power(ours)?, spectrum::power(theirs)?);
    let low = distance(&powers.0, &powers.1, |frame| frame[..LOW_BINS].to_vec());
    let high = distance(&powers.0, &powers.1, |frame| frame[LOW_BINS..].to_vec());
    let filters = spectrum::mel_filters(N_MELS);
    let mel = distance(&powers.0, &powers.1, |frame| mel_power(frame, &filters));
    Ok(format!(
        "| {name} | {} | {length:+} | {shift:+} | {:.1} | {:.3}/{:.2} | {:.3}/{:.2} | {:.5}/{:.4} |",
        common,
        signal_to_difference_db(ours, theirs),
        low.mean_db,
        low.max_db,
        high.mean_db,
        high.max_db,
        // Whisper's features: log10 of power, divided by 4.
        mel.mean_db / 40.0,
        mel.max_db / 40.0,
    ))
}

fn mel_power(frame: &[f32; N_BINS], filters: &[f32]) -> Vec<f32> {
    filters
        .chunks_exact(N_BINS)
        .map(|row| row.iter().zip(frame).map(|(w, p)| w * p).sum())
        .collect()
}

/// The shift of `ours` against `theirs` with the largest correlation; above 0 ours is late.
fn best_shift(ours: &[f32], theirs: &[f32]) -> i64 {
    let length = ours.len().min(theirs.len()).min(SHIFT_SAMPLES);
    let reach = MAX_SHIFT_SAMPLES.min(length / 2);
    let core = reach..length - reach;
    let correlation = |shift: usize| -> f64 {
        let start = core.start + shift - reach;
        let window = &ours[start..start + core.len()];
        window.iter().zip(&theirs[core.clone()]).map(|(a, b)| f64::from(a * b)).sum()
    };
    let best = (0..=2 * reach).max_by(|&a, &b| correlation(a).total_cmp(&correlation(b)));
    best.unwrap_or(reach) as i64 - reach as i64
}

fn signal_to_difference_db(ours: &[f32], theirs: &[f32]) -> f64 {
    let energy = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value) * f64::from(value)).sum()
    };
    let signal = energy(&mut theirs.iter().copied());
    let difference = energy(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
    10.0 * (signal / difference).log10()
}

/// Mean and largest difference of log power.
struct Distance {
    mean_db: f64,
    max_db: f64,
}

fn distance(
    ours: &[[f32; N_BINS]],
    theirs: &[[f32; N_BINS]],
    bands: impl Fn(&[f32; N_BINS]) -> Vec<f32>,
) -> Distance {
    let ours: Vec<f32> = ours.iter().flat_map(&bands).collect();
    let theirs: Vec<f32> = theirs.iter().flat_map(&bands).collect();
    // Eight decades below the loudest, as in Whisper's features.
    let floor = theirs.iter().copied().fold(1e-10, f32::max) * 1e-8;
    let decibel = |power: f32| 10.0 * f64::from(power.max(floor)).log10();
    let (mut sum, mut max) = (0.0, 0.0_f64);
    for (a, b) in ours.iter().zip(&theirs) {
        let difference = (decibel(*a) - decibel(*b)).abs();
        sum += difference;
        max = max.max(difference);
    }
    Distance { mean_db: sum / ours.len().max(1) as f64, max_db: max }
}
