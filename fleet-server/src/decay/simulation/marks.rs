//! Faults that stay, too small to be said at every window: who is named stays named while they are said.

use std::collections::BTreeMap;

use super::{
    super::marks::{Mark, QUIET},
    *,
};

/// What their cohort says of devices 2 and 5.
fn apart(fleet: &Fleet) -> BTreeMap<(usize, usize), Mark> {
    let of = |device: usize| {
        let watch = fleet.detector.device(&fleet.model, &name(device)).unwrap();
        let apart = watch.marks.iter().filter(|(_, layer, _)| *layer == Layer::Concurrent);
        apart.map(move |(feature, _, mark)| ((device, feature), mark.clone())).collect::<Vec<_>>()
    };
    [2, 5].into_iter().flat_map(of).collect()
}

#[test]
fn what_is_said_again_just_as_it_would_end_is_said_without_a_break() {
    let mut again = 0;
    for seed in 300..306 {
        let mut fleet = Fleet::new(seed, 8);
        fleet.rounds(15, clean);
        let mut before = BTreeMap::new();
        for _ in 0..60 {
            fleet.round(shifted(&[2, 5], 0.3));
            let now = apart(&fleet);
            for (at, mark) in &now {
                let Some(known) = before.get(at).filter(|known: &&Mark| known.last + QUIET == mark.last) else {
                    continue;
                };
                again += 1;
                assert_eq!((mark.first_round, mark.since), (known.first_round, known.since), "seed {seed}, {at:?}");
            }
            before = now;
        }
    }
    println!("{again} marks were made again in the round of their end");
    assert!(again >= 3, "{again}");
}
