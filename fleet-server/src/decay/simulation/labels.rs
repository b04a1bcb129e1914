//! Wrong answers of devices at fault that nobody has named yet, and how fast a model is found that is wrong everywhere.

use super::*;

const BEFORE: usize = 12;

/// Rounds of harm until something was said of a fleet of ten: device fault, model broken, objective breached.
type Told = [Option<usize>; 3];

fn tell(seed: u64, harm: impl Fn(usize) -> Harm) -> Told {
    let mut fleet = Fleet::new(seed, 10);
    fleet.rounds(BEFORE, clean);
    assert_eq!(fleet.opened(), [], "seed {seed}");
    fleet.rounds(15, harm);
    let opened = fleet.opened();
    let first = |of| opened.iter().find(|(_, kind, _)| *kind == of).map(|(round, ..)| round - BEFORE + 1);
    [IncidentKind::DeviceFault, IncidentKind::ModelBroken, IncidentKind::ObjectiveBreached].map(first)
}

fn all(what: &str, harm: impl Fn(usize) -> Harm) -> Vec<Told> {
    let seeds = if std::env::var_os("TERN_FULL").is_some() { 200..212 } else { 200..203 };
    let all: Vec<_> = seeds.map(|seed| tell(seed, &harm)).collect();
    let figures = [0, 1, 2].map(|of| {
        let found: Vec<_> = all.iter().filter_map(|told| told[of]).collect();
        let mean = found.iter().sum::<usize>() as f64 / found.len().max(1) as f64;
        format!("{} of {} after {mean:.2} rounds", found.len(), all.len())
    });
    println!("{what}: fault {}, broken {}, breached {}", figures[0], figures[1], figures[2]);
    all
}

#[test]
fn wrong_answers_of_devices_that_are_about_to_be_named_say_nothing_about_the_model() {
    for (count, shift, broken) in
        [(2, 0.5, 0.3), (2, 0.5, 0.6), (2, 0.5, 1.0), (2, 3.0, 0.6), (2, 3.0, 1.0), (3, 3.0, 0.6), (3, 3.0, 1.0)]
    {
        let harm = |device| if device < count { Harm { shift, broken, ..Harm::default() } } else { Harm::default() };
        for told in all(&format!("{count} of ten off by {shift}, {broken} of answers wrong"), harm) {
            assert!(matches!(told, [Some(1..=6), None, None]), "{told:?}");
        }
    }
    // What their inputs do not show is not known in time.
    all("2 of ten off by 0.2, 0.6 of answers wrong", |device| match device {
        0 | 1 => Harm { shift: 0.2, broken: 0.6, ..Harm::default() },
        _ => Harm::default(),
    });
}

#[test]
fn a_model_that_is_wrong_everywhere_is_found_as_fast_whatever_the_inputs_do() {
    for (shift, on, broken, most) in [
        (0.0, 0, 0.12, 8),
        (0.0, 0, 0.16, 4),
        (0.0, 0, 0.2, 3),
        (0.5, 10, 0.12, 8),
        (0.5, 10, 0.16, 4),
        (2.0, 2, 0.16, 5),
    ] {
        let harm = |device| Harm { shift: if device < on { shift } else { 0.0 }, broken, ..Harm::default() };
        for told in all(&format!("{broken} of all answers wrong, {on} of ten off by {shift}"), harm) {
            let [_, broken, breached] = told.map(|rounds| rounds.unwrap_or(usize::MAX));
            assert!(broken <= most && breached <= most, "{told:?}");
        }
    }
}
