//! VBx and its PLDA against the reference's numbers, and what is made of them.

use std::collections::HashMap;

use super::*;
use crate::models::{Npz, npz_testing};
use crate::segmentation::testing::{reference, tensor};

const SETTINGS: Settings = Settings { threshold: THRESHOLD, least: 1, most: usize::MAX };

fn npz(name: &str, arrays: &[(&str, &[usize], &[f64])]) -> Npz {
    Npz::from_bytes(name, npz_testing::npz(arrays)).unwrap()
}

/// The synthetic PLDA of the reference.
fn plda(golden: &[u8]) -> Plda {
    let array = |name: &str| tensor(golden, name);
    let transform = npz(
        "xvec_transform.npz",
        &[
            ("mean1", &[64], &array("mean1")),
            ("mean2", &[32], &array("mean2")),
            ("lda", &[64, 32], &array("lda")),
        ],
    );
    let plda = npz(
        "plda.npz",
        &[
            ("mu", &[32], &array("mu")),
            ("tr", &[32, 32], &array("tr")),
            ("psi", &[32], &array("psi")),
        ],
    );
    Plda::load(&transform, &plda).unwrap()
}

#[track_caller]
fn assert_near(found: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len());
    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!((found - wanted).abs() <= tolerance, "{at}: {found} is not {wanted}");
    }
}

/// Whether two labellings are the same up to names.
fn is_renamed(a: &[usize], b: &[usize]) -> bool {
    let mut names = HashMap::new();
    let mut back = HashMap::new();
    a.iter()
        .zip(b)
        .all(|(&a, &b)| *names.entry(a).or_insert(b) == b && *back.entry(b).or_insert(a) == a)
}

#[test]
fn features_and_mixture_equal_the_reference() {
    let Some(golden) = reference("vbx.safetensors") else { return };
    let plda = plda(&golden);
    assert_near(&plda.phi, &tensor(&golden, "phi"), 1e-9);
    let embeddings = tensor(&golden, "embeddings");
    let features: Vec<f64> =
        embeddings.chunks_exact(64).flat_map(|embedding| plda.features(embedding)).collect();
    let wanted = tensor(&golden, "features");
    // The sign of a dimension is arbitrary.
    let mut turned = features.clone();
    for at in 0..32 {
        if features[at] * wanted[at] < 0.0 {
            turned.iter_mut().skip(at).step_by(32).for_each(|value| *value = -*value);
        }
    }
    // The reference solves for what is exact here: f64 through two inverses.
    assert_near(&turned, &wanted, 1e-6);

    let first: Vec<usize> = tensor(&golden, "ahc").iter().map(|&label| label as usize).collect();
    let mixture = Mixture::fit(features, &plda.phi, &first);
    assert_near(&mixture.responsibilities, &tensor(&golden, "responsibilities"), 1e-6);
    assert_near(&mixture.shares, &tensor(&golden, "priors"), 1e-6);
}

#[test]
fn first_groups_and_labels_equal_the_reference() {
    let Some(golden) = reference("vbx.safetensors") else { return };
    let plda = plda(&golden);
    let voices: Vec<Voice> = tensor(&golden, "embeddings")
        .chunks_exact(64)
        .map(|x| Voice { embedding: x.iter().map(|&x| x as f32).collect(), is_trusted: true })
        .collect();
    let vectors: Vec<&[f32]> = voices.iter().map(|voice| &*voice.embedding).collect();
    let first: Vec<usize> = tensor(&golden, "ahc").iter().map(|&label| label as usize).collect();
    assert!(is_renamed(&cluster::near_groups(&vectors, THRESHOLD, MAX_SPEAKERS), &first));
    assert_eq!(cluster::near_groups(&vectors, THRESHOLD, 2).iter().max(), Some(&1));

    let windows: Vec<usize> = (0..voices.len()).collect();
    let found = speakers(&voices, &windows, &plda, &SETTINGS);
    let wanted: Vec<usize> =
        tensor(&golden, "responsibilities").chunks_exact(4).map(likeliest).collect();
    let labels: Vec<usize> = found.labels.iter().map(|label| label.unwrap()).collect();
    assert!(is_renamed(&labels, &wanted), "{labels:?}");

    for (least, most, count) in [(1, 2, 2), (6, 9, 6), (1, 1, 1), (100, 200, 60)] {
        let settings = Settings { least, most, ..SETTINGS };
        let found = speakers(&voices, &windows, &plda, &settings);
        assert_eq!(found.centroids.len(), count, "{least} to {most}");
        assert!(found.labels.iter().all(|label| label.is_some_and(|label| label < count)));
    }
    // Two of one voice in one window: one of them is another, unless the number is forced.
    let at = |label: usize| labels.iter().enumerate().filter(move |(_, l)| **l == label);
    let (a, b) = (at(0).next().unwrap().0, at(0).nth(1).unwrap().0);
    let mut twins = voices.clone();
    twins.extend([voices[a].clone(), voices[b].clone()]);
    let windows: Vec<usize> = (0..60).chain([60, 60]).collect();
    let found = speakers(&twins, &windows, &plda, &SETTINGS).labels;
    assert_ne!(found[60], found[61]);
    let forced = Settings { least: 2, most: 2, ..SETTINGS };
    let found = speakers(&twins, &windows, &plda, &forced).labels;
    assert_eq!(found[60], found[61]);

    let few: Vec<Voice> =
        voices[..3].iter().map(|voice| Voice { is_trusted: false, ..voice.clone() }).collect();
    let found = speakers(&few, &[0, 0, 1], &plda, &SETTINGS);
    assert_eq!((found.labels, found.centroids.len()), (vec![Some(0); 3], 1));
    assert_eq!(speakers(&[], &[], &plda, &SETTINGS), Speakers::default());
}

fn likeliest(row: &[f64]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

#[test]
fn rows_share_no_speaker_and_as_many_as_can_have_one() {
    let give =
        |rows: &[&[f32]]| one_to_one(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>());
    assert_eq!(give(&[&[0.9, 0.1, 0.0]]), [Some(0)]);
    assert_eq!(give(&[&[0.9, 0.8, 0.0], &[0.9, 0.1, 0.0]]), [Some(1), Some(0)]);
    // The best for all is not the best for the first.
    assert_eq!(
        give(&[&[0.9, 0.85, -1.0], &[0.8, 0.0, 0.1], &[0.7, 0.6, -0.9]]),
        [Some(1), Some(2), Some(0)]
    );
    assert_eq!(give(&[&[-0.5], &[0.5], &[-0.9]]), [None, Some(0), None]);
    assert!(give(&[]).is_empty());
}

#[test]
fn arrays_that_do_not_fit_are_named_with_their_file() {
    let zeros = [0.0; 16];
    let transform = |rows: usize| {
        npz(
            "a/xvec_transform.npz",
            &[
                ("mean1", &[4], &zeros[..4]),
                ("mean2", &[2], &zeros[..2]),
                ("lda", &[rows, 2], &zeros[..2 * rows]),
            ],
        )
    };
    let good = npz(
        "a/plda.npz",
        &[("mu", &[2], &zeros[..2]), ("tr", &[2, 2], &zeros[..4]), ("psi", &[2], &[1.0, 0.5])],
    );
    let message =
        |transform: &Npz, plda: &Npz| Plda::load(transform, plda).unwrap_err().to_string();
    assert!(Plda::load(&transform(4), &good).is_ok());
    assert_eq!(
        message(&transform(3), &good),
        "model `a/xvec_transform.npz`: array `mean1` is [4], expected [3]"
    );
    assert_eq!(
        message(&transform(4), &npz("a/plda.npz", &[("mu", &[2], &zeros[..2])])),
        "model `a/plda.npz`: has no array `psi`"
    );
    let flat = npz(
        "a/plda.npz",
        &[("mu", &[2], &zeros[..2]), ("tr", &[2, 2], &zeros[..4]), ("psi", &[2], &zeros[..2])],
    );
    assert!(message(&transform(4), &flat).contains("`psi` that are not above 0"));
}
