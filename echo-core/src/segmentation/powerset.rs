//! Classes of sets of speakers: nobody, one of three, two of three.

use super::{CLASSES, LOCAL_SPEAKERS};

/// The speakers of each class.
const MEMBERS: [[bool; LOCAL_SPEAKERS]; CLASSES] = [
    [false, false, false],
    [true, false, false],
    [false, true, false],
    [false, false, true],
    [true, true, false],
    [true, false, true],
    [false, true, true],
];

/// Who speaks in the likeliest class of one frame, a bit for each speaker.
pub(crate) fn likeliest(log_probabilities: &[f32]) -> u8 {
    let mut best = 0;
    for (class, value) in log_probabilities.iter().enumerate() {
        if *value > log_probabilities[best] {
            best = class;
        }
    }
    bits(best)
}

/// The speakers of a class as bits.
fn bits(class: usize) -> u8 {
    let members = MEMBERS[class].iter().enumerate();
    members.fold(0, |bits, (speaker, &is_member)| bits | u8::from(is_member) << speaker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_sets_of_at_most_two() {
        assert_eq!((0..CLASSES).map(bits).collect::<Vec<_>>(), [0, 1, 2, 4, 3, 5, 6]);
        assert_eq!(likeliest(&[-3.0, -2.0, -9.0, -4.0, -0.1, -5.0, -6.0]), 3);
        // The first of equals, as argmax of the reference.
        assert_eq!(likeliest(&[-1.0; CLASSES]), 0);
    }
}
