//! Played digits through the engine into windows, as a device makes them: what the offline tests of the quickstart share.

use std::{ops::Range, path::PathBuf};

use tern_engine::{Limits, Model, Tensor};
use tern_examples::{
    cameras::{Digit, read_digits},
    play::script::Script,
};
use tern_protocol::{
    contract::{Contract, DataType, Derived, Prediction, TensorContract, Violation},
    reference,
    watch::{self, Scratch, Values, Watch},
};
use tern_stats::{labels::Labels, profile::Profile, recorder::Recorder, window::Window};

/// A version of the quickstart and the images that are played.
pub(crate) struct Rig {
    digits: Vec<Digit>,
    model: Model,
    watch: Watch,
    /// Its reference profile.
    pub(crate) profile: Profile,
}

fn tensor(name: &str, datatype: DataType, shape: &[i64], derive: &[Derived]) -> TensorContract {
    TensorContract {
        name: name.into(),
        datatype,
        shape: shape.to_vec(),
        range: None,
        nan: Violation::Reject,
        features: vec![],
        derive: derive.to_vec(),
    }
}

/// The contract as far as counting goes; `reference::read` holds the committed profile against it.
fn contract() -> Contract {
    let derive = [Derived::Mean, Derived::Contrast, Derived::Sharpness];
    Contract {
        inputs: vec![tensor("pixels", DataType::Fp32, &[-1, 8, 8], &derive)],
        outputs: vec![
            tensor("label", DataType::Int64, &[-1], &[]),
            tensor("probabilities", DataType::Fp32, &[-1, 10], &[]),
        ],
        prediction: Some(Prediction { label: "label".into(), confidence: Some("probabilities".into()) }),
    }
}

impl Rig {
    /// The version as it is committed.
    pub(crate) fn new(version: &str) -> Self {
        let assets = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart"));
        let folder = assets.join("models/meter-digits").join(version);
        let read = |name: &str| std::fs::read(folder.join(name)).expect("a committed file");
        Self {
            digits: read_digits(&assets.join("data/played.csv")).expect("the played part"),
            model: Model::load(&read("model.onnx"), &Limits::default()).expect("a model"),
            watch: Watch::new(&contract()),
            profile: reference::read(&read("reference.json"), &contract()).expect("a profile"),
        }
    }

    /// A window over the images of these numbers before one camera.
    pub(crate) fn window(&self, script: &Script, camera: usize, numbers: Range<u64>, is_fouled: bool) -> Window {
        let count = (numbers.end - numbers.start) as usize;
        let shown: Vec<_> = numbers.clone().map(|n| script.image(camera, n, &self.digits, is_fouled)).collect();
        let pixels: Vec<f32> = shown.iter().flat_map(|digit| digit.pixels.iter().copied()).collect();
        let input = Tensor::new([count, 8, 8], pixels.clone()).expect("a tensor");
        let outputs = self.model.run(&[input]).expect("answers");
        let (answers, sure) = (outputs[0].values::<i64>().expect("labels"), outputs[1].values::<f32>().expect("odds"));
        let inputs = [watch::Tensor { shape: &[count, 8, 8], values: Values::F32(&pixels) }];
        let outputs = [
            watch::Tensor { shape: &[count], values: Values::I64(answers) },
            watch::Tensor { shape: &[count, 10], values: Values::F32(sure) },
        ];
        let mut recorder = Recorder::of(&self.profile);
        let bins = self.profile.confidence.as_ref().map_or(0, |confidence| confidence.bins.len());
        let mut labels = vec![Labels::default(); bins];
        let rows = self.watch.rows(&inputs, &outputs).expect("rows of the contract");
        rows.fold(&mut recorder, &mut Scratch::default(), |row, bin| {
            if script.is_labelled(camera, numbers.start + row as u64) {
                labels[bin].n += 1;
                labels[bin].errors += u64::from(answers[row] != shown[row].label);
            }
        });
        Window { labels, ..recorder.take() }
    }
}
