//! ONNX tensors, as golden vectors bring them.

use tern_engine::{Data, Tensor, tensor_from_pb, tensor_to_pb};

use crate::{
    mutate::Form,
    target::{Kind, Pace, Target, Verdict},
};

pub(super) fn kinds() -> Vec<Kind> {
    vec![Kind::new("tensor-pb", Form::Binary, Pace::Call, || Box::new(Tensors)).within(1024)]
}

struct Tensors;

impl Target for Tensors {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let tensor =
            |shape: &[usize], data: Data| tensor_to_pb(&Tensor::new(shape.to_vec(), data).expect("it fits"), "t");
        vec![
            ("f32.pb".into(), tensor(&[2, 3], vec![0.5f32, -1.0, 2.0, f32::MAX, 0.0, -0.0].into())),
            ("i64.pb".into(), tensor(&[3], vec![i64::MIN, 0, i64::MAX].into())),
            ("u8.pb".into(), tensor(&[1, 2, 2], vec![0u8, 1, 128, 255].into())),
            ("bool.pb".into(), tensor(&[2], vec![true, false].into())),
            ("bytes.pb".into(), tensor(&[2], Data::Bytes(vec![b"one".to_vec(), vec![]]))),
            ("scalar.pb".into(), tensor(&[], vec![7i32].into())),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let Ok(tensor) = tensor_from_pb(input) else { return Verdict::Refused };
        let again = tensor_from_pb(&tensor_to_pb(&tensor, "again")).expect("what was read can be written");
        assert_eq!(again.shape(), tensor.shape());
        // NaN is not equal to itself; its text is.
        assert_eq!(format!("{:?}", again.data()), format!("{:?}", tensor.data()));
        Verdict::Accepted
    }
}
