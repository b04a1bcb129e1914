//! Whole ONNX models: forests, linear models, vectors, names, small nets with branches, loops and quanta. A broken one is refused or
//! answers, always the same, and never takes the process, its memory or its time.

use std::path::Path;

use tern_engine::{DType, Data, Limits, Model, Tensor, TensorSpec};

use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

/// The golden models that are broken: every family of ours, forests most, and forms of tract's.
const SEEDS: [&str; 32] = [
    "TreeEnsembleClassifier/three_none",
    "TreeEnsembleClassifier/nan",
    "TreeEnsembleClassifier/first_mixed_logistic",
    "TreeEnsembleClassifier/words",
    "TreeEnsembleRegressor/modes",
    "TreeEnsembleRegressor/max_three",
    "TreeEnsembleRegressor/stump",
    "LinearClassifier/two_words",
    "SVMClassifier/four_proba_none",
    "SVMRegressor/rbf_0",
    "LabelEncoder/words_ints",
    "OneHotEncoder/ints",
    "FeatureVectorizer/wider",
    "ZipMap/ints",
    "TreeEnsembleRegressor/members_share_a_tree",
    "If/of_a_value",
    "If/of_a_shape",
    "If/of_constants_1",
    "Scan/euclidean",
    "DynamicQuantizeLSTM/bidirectional_int8_each",
    "QuantizeLinear/int8_each",
    "QuantizeLinear/dynamic",
    "Gemm/float64_row",
    "MaxPool/same_upper_6",
    "AveragePool/padded_6",
    "CumSum/both",
    "TopK/floats_0",
    "Slice/constant",
    "Pad/constant",
    "Split/uneven",
    "LSTM/bidirectional",
    "Sigmoid/float64",
];

pub(super) fn kinds() -> Vec<Kind> {
    vec![Kind::new("model", Form::Proto, Pace::Slow, || Box::new(Models)).within(1024)]
}

struct Models;

impl Target for Models {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden");
        let read = |name: &&str| {
            let bytes = std::fs::read(golden.join(name).join("model.onnx")).expect("a golden model");
            (name.replace('/', "-"), bytes)
        };
        SEEDS.iter().map(read).collect()
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let limits = Limits { decoded_bytes: 64 << 20, tensor_bytes: 16 << 20, ..Limits::default() };
        let model = match Model::load(input, &limits) {
            Ok(model) => model,
            Err(error) => {
                assert!(error.to_string().chars().count() < 12_000, "a message without bound");
                return Verdict::Refused;
            }
        };
        for rows in [1, 9] {
            let Some(inputs) = model.inputs().iter().map(|spec| values(spec, rows)).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let once = model.run(&inputs);
            // NaN is not equal to itself; its text is.
            assert_eq!(format!("{:?}", model.run(&inputs)), format!("{once:?}"), "the same question has one answer");
        }
        Verdict::Accepted
    }
}

/// Some values of an input; none where they would be too many.
fn values(spec: &TensorSpec, rows: usize) -> Option<Tensor> {
    let shape: Vec<usize> = spec.dims.iter().map(|dim| dim.unwrap_or(rows)).collect();
    let count =
        shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim)).filter(|count| *count <= 1 << 20)?;
    let odd = [0.5f32, f32::NAN, -1.0, f32::INFINITY, 0.0, 3.0, -2.5, f32::MAX];
    let data = match spec.dtype {
        DType::F32 => Data::F32((0..count).map(|at| odd[at % odd.len()]).collect()),
        DType::F64 => Data::F64((0..count).map(|at| odd[at % odd.len()].into()).collect()),
        DType::I64 => Data::I64((0..count).map(|at| [0, 1, -1, i64::MAX, i64::MIN, 2][at % 6]).collect()),
        DType::I32 => Data::I32((0..count).map(|at| [0, 1, -1, i32::MAX, i32::MIN, 2][at % 6]).collect()),
        DType::Bytes => Data::Bytes((0..count).map(|at| [&b"a"[..], b"", b"b"][at % 3].to_vec()).collect()),
        _ => return None,
    };
    Tensor::new(shape, data).ok()
}
