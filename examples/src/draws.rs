//! Numbers drawn by seed, the same here and in `quickstart/draws.py`: the output function of SplitMix64 (Steele, Lea and
//! Flood, 2014), so that the n-th number needs none of those before it.

/// The draw of `seed` at `number`.
pub fn draw(seed: u64, number: u64) -> u64 {
    mixed(mixed(seed) ^ number)
}

/// One of `count` places, which is not 0, drawn by `seed` at `number`.
///
/// The remainder favours low places by a part in 2^64 / count: nothing that a story could show.
pub fn place(seed: u64, number: u64, count: usize) -> usize {
    (draw(seed, number) % count as u64) as usize
}

/// Whether `number` is among the share of about `per_mille` in a thousand that `seed` draws.
pub fn is_drawn(seed: u64, number: u64, per_mille: u64) -> bool {
    draw(seed, number) % 1000 < per_mille
}

/// One step of the generator from the state `value`.
pub fn mixed(value: u64) -> u64 {
    let z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first three numbers of SplitMix64 from the state 1234567, as its authors' code prints them.
        let golden = 0x9E37_79B9_7F4A_7C15_u64;
        let state = |n: u64| 1_234_567_u64.wrapping_add(golden.wrapping_mul(n));
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|n| mixed(state(n))), expected);
    }

    #[test]
    fn a_share_is_about_what_was_asked_for() {
        let drawn = (0..10_000).filter(|n| is_drawn(5, *n, 300)).count();
        assert!((2_850..3_150).contains(&drawn), "{drawn}");
        assert!((0..100).all(|n| place(5, n, 7) < 7));
    }
}
