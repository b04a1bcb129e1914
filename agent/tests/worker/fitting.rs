//! A reference profile for the digits, fitted as a publisher would: by the door that the worker counts by.

use tern_protocol::{
    contract::Contract,
    watch::{self, Scratch, Watch},
};
use tern_stats::{
    profile::{Baseline, Confidence, Profile, Spec, fit},
    recorder::{Recorder, Value},
};

use crate::fixture::{label, pixels};

/// A profile of the golden digits, sixty times sixteen of them, at brightnesses that vary.
pub(crate) fn profile(contract: &Contract) -> Profile {
    let watch = Watch::new(contract);
    let rows: Vec<(Vec<f32>, i64)> =
        (0..960).map(|i| (pixels(i % 16).iter().map(|p| p * brightness(i)).collect(), label(i % 16))).collect();
    let sure = |i: usize| 0.3 + 0.69 * (i as f32 * 0.618).fract();
    let each = |i: usize, read: &mut dyn FnMut(&watch::Rows<'_>)| {
        let (image, class) = &rows[i];
        let mut probabilities = [0.01; 10];
        probabilities[*class as usize] = sure(i);
        let inputs = [watch::Tensor { shape: &[1, 8, 8], values: watch::Values::F32(image) }];
        let class = [*class];
        let outputs = [
            watch::Tensor { shape: &[1], values: watch::Values::I64(&class) },
            watch::Tensor { shape: &[1, 10], values: watch::Values::F32(&probabilities) },
        ];
        read(&watch.rows(&inputs, &outputs).unwrap());
    };
    let mut scratch = Scratch::default();
    let mut seen = vec![Vec::new(); watch.inputs().len()];
    for i in 0..rows.len() {
        each(i, &mut |row| {
            for (at, seen) in seen.iter_mut().enumerate() {
                row.input(0, at, &mut scratch, |value| match value {
                    Value::Number(Some(number)) => seen.push(number),
                    other => panic!("{other:?}"),
                });
            }
        });
    }
    let features: Vec<Spec> =
        watch.inputs().iter().zip(&seen).map(|(w, seen)| Spec::numeric(&w.name, seen).unwrap()).collect();
    let classes: Vec<String> = rows.iter().map(|(_, class)| class.to_string()).collect();
    let outputs = [Spec::categorical("label", classes.iter().map(String::as_str))];
    let held_out: Vec<_> = (0..rows.len()).map(|i| (f64::from(sure(i)), i % 11 == 0)).collect();
    let confidence = Confidence::of_sample(&held_out).unwrap();
    let mut recorder = Recorder::new(&features, &outputs, Some(&confidence.edges));
    let mut windows = Vec::new();
    for i in 0..rows.len() {
        each(i, &mut |row| row.fold(&mut recorder, &mut scratch, |_, _| ()));
        if i % 16 == 15 {
            windows.push(recorder.take());
        }
    }
    let baseline = Baseline { outputs: &outputs, confidence: Some(confidence), ..Baseline::new(&features, &windows) };
    fit(&baseline).unwrap()
}

fn brightness(i: usize) -> f32 {
    0.5 + 0.5 * (i as f32 * 0.381).fract()
}
