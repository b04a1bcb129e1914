//! Operators that tract lacks or answers wrongly, registered over its own by name: one file per family.
//!
//! An operator is a [`kernel::Kernel`]: it is built from a node's attributes, which it checks in full, says what comes out for what goes
//! in, and computes it. `kernel` alone knows how tract wants to be told. What onnxruntime answers is right.

mod kernel;
mod labels;
mod post;
mod scaler;
mod tree;

use kernel::operator;
use tract_onnx::Onnx;

/// Puts the operators of this folder into tract's reader.
pub(crate) fn register(reader: &mut Onnx) {
    let register = &mut reader.op_register;
    operator!(register, "Scaler", scaler::build);
    operator!(register, "TreeEnsembleClassifier", tree::classifier);
    operator!(register, "TreeEnsembleRegressor", tree::regressor);
}
