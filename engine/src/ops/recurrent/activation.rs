//! The functions that a recurrent operator may name in `activations`.

use super::super::curves;
use tract_onnx::{
    pb::NodeProto,
    prelude::TractResult,
    tract_hir::internal::{bail, ensure},
};

/// A function with its two parameters, of which most use none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Activation {
    kind: Kind,
    alpha: f32,
    beta: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Affine,
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    ScaledTanh,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu,
}

/// Name, whether there are an alpha and a beta, and what they are where the file does not say.
const KNOWN: [(&str, Kind, Option<f32>, Option<f32>); 11] = [
    ("Affine", Kind::Affine, Some(1.0), Some(0.0)),
    ("Elu", Kind::Elu, Some(1.0), None),
    ("HardSigmoid", Kind::HardSigmoid, Some(0.2), Some(0.5)),
    ("LeakyRelu", Kind::LeakyRelu, Some(0.01), None),
    ("Relu", Kind::Relu, None, None),
    ("ScaledTanh", Kind::ScaledTanh, Some(1.0), Some(1.0)),
    ("Sigmoid", Kind::Sigmoid, None, None),
    ("Softplus", Kind::Softplus, None, None),
    ("Softsign", Kind::Softsign, None, None),
    ("Tanh", Kind::Tanh, None, None),
    ("ThresholdedRelu", Kind::ThresholdedRelu, Some(1.0), None),
];

/// The functions of all ways through the sequence: as the node names them, or the `usual` ones for each way. Parameters are given in
/// order to the functions that take some.
///
/// # Errors
/// Where a function is not known, or there are not as many as wanted.
pub(super) fn read(node: &NodeProto, usual: &[&str], ways: usize) -> TractResult<Vec<Activation>> {
    let named = node.get_attr_opt_vec::<&str>("activations")?.unwrap_or_default();
    let wanted = usual.len() * ways;
    ensure!(named.is_empty() || named.len() == wanted, "has {} activations, not {wanted}", named.len());
    let names = if named.is_empty() { usual.repeat(ways) } else { named };
    let mut alphas = node.get_attr_opt_vec::<f32>("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = node.get_attr_opt_vec::<f32>("activation_beta")?.unwrap_or_default().into_iter();
    let mut made = Vec::with_capacity(wanted);
    for name in names {
        let Some((_, kind, alpha, beta)) = KNOWN.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)) else {
            bail!("activation `{name}` is not known")
        };
        let alpha = alpha.map_or(0.0, |usual| alphas.next().unwrap_or(usual));
        let beta = beta.map_or(0.0, |usual| betas.next().unwrap_or(usual));
        made.push(Activation { kind: *kind, alpha, beta });
    }
    Ok(made)
}

impl Activation {
    /// Of each value, which is first brought within `clip` of 0.
    pub(super) fn all(self, values: &mut [f32], clip: f32) {
        values.iter_mut().for_each(|value| *value = value.clamp(-clip, clip));
        match self.kind {
            Kind::Sigmoid => curves::sigmoid_all(values),
            Kind::Tanh => curves::tanh_all(values),
            _ => values.iter_mut().for_each(|value| *value = self.of(*value)),
        }
    }

    fn of(self, x: f32) -> f32 {
        let Self { alpha, beta, .. } = self;
        match self.kind {
            Kind::Affine => alpha * x + beta,
            Kind::Elu => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * x.exp_m1()
                }
            }
            Kind::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
            Kind::LeakyRelu => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * x
                }
            }
            Kind::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Kind::ScaledTanh => alpha * (beta * x).tanh(),
            Kind::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Kind::Softplus => {
                if x > 0.0 {
                    x + (-x).exp().ln_1p()
                } else {
                    x.exp().ln_1p()
                }
            }
            Kind::Softsign => x / (1.0 + x.abs()),
            Kind::Tanh => x.tanh(),
            Kind::ThresholdedRelu => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
        }
    }
}
