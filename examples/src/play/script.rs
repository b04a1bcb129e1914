//! What each camera sees and which of its answers are labelled later, by seed: no clock, no device.
//!
//! A camera draws each image anew from all digits. With a share of its own it would differ from every other camera for
//! good, by more than the detectors let pass: 80 images are a small world.

use crate::{cameras::Digit, draws, fouling};

/// A stream of images for any number of cameras.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Decides everything.
    pub seed: u64,
    /// Of a thousand rows, how many get a label; drawn by number, so never by what was answered.
    pub labelled_per_mille: u64,
}

/// Streams of numbers that must not go together.
#[derive(Clone, Copy)]
enum Purpose {
    Image,
    Smudge,
    Label,
}

impl Script {
    /// The `number`-th image of a camera, behind a fouled lens or a clean one. `digits` are not empty.
    pub fn image(&self, camera: usize, number: u64, digits: &[Digit], is_fouled: bool) -> Digit {
        let digit = &digits[draws::place(self.stream(camera, Purpose::Image), number, digits.len())];
        if is_fouled { fouling::fouled(digit, self.stream(camera, Purpose::Smudge), number) } else { digit.clone() }
    }

    /// Whether somebody will tell what it really was.
    pub fn is_labelled(&self, camera: usize, number: u64) -> bool {
        draws::is_drawn(self.stream(camera, Purpose::Label), number, self.labelled_per_mille)
    }

    fn stream(&self, camera: usize, purpose: Purpose) -> u64 {
        draws::draw(self.seed, camera as u64 * 3 + purpose as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_differ_and_seeds_repeat() {
        let digits: Vec<_> = (0..50).map(|label| Digit { label, pixels: vec![label as f32 % 17.0; 64] }).collect();
        let labels = |seed, camera, is_fouled| -> Vec<_> {
            let script = Script { seed, labelled_per_mille: 200 };
            (0..40).map(|n| script.image(camera, n, &digits, is_fouled).label).collect()
        };
        assert_eq!(labels(1, 0, false), labels(1, 0, true), "fouling changes the pixels, not the digit");
        assert_ne!(labels(1, 0, false), labels(1, 1, false));
        assert_ne!(labels(1, 0, false), labels(2, 0, false));
        let script = Script { seed: 1, labelled_per_mille: 200 };
        let labelled = (0..1000).filter(|n| script.is_labelled(3, *n)).count();
        assert!((150..250).contains(&labelled), "{labelled}");
    }
}
