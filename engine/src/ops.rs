//! Operators that tract lacks or answers wrongly, registered over its own by name: one file per family.
//!
//! An operator is a [`kernel::Kernel`]: it is built from a node's attributes, which it checks in full, says what comes out for what goes
//! in, and computes it. `kernel` alone knows how tract wants to be told. What onnxruntime answers is right.

mod branch;
mod columns;
mod cumsum;
mod dequantize;
mod elements;
mod encode;
mod gemm;
mod kernel;
mod labels;
mod linear;
mod post;
mod quantize;
mod quantized_lstm;
mod reduce;
mod scaler;
mod softmax;
mod svm;
mod tree;

use kernel::{operator, wrap};
use tract_onnx::Onnx;

/// Puts the operators of this folder into tract's reader.
pub(crate) fn register(reader: &mut Onnx) {
    let register = &mut reader.op_register;
    operator!(register, "ArrayFeatureExtractor", columns::array_feature_extractor);
    operator!(register, "Binarizer", columns::binarizer);
    operator!(register, "CategoryMapper", encode::category_mapper);
    register.insert("CumSum", cumsum::running);
    register.insert("DequantizeLinear", dequantize::linear);
    operator!(register, "DynamicQuantizeLSTM", quantized_lstm::lstm);
    operator!(register, "FeatureVectorizer", columns::feature_vectorizer);
    register.insert("Gemm", gemm::product);
    register.insert("If", branch::conditional);
    operator!(register, "Imputer", columns::imputer);
    register.insert("IsInf", elements::is_inf);
    register.insert("IsNaN", elements::is_nan);
    register.insert("LabelEncoder", |context, node| Ok((wrap(node, encode::label(context, node)?), Vec::new())));
    register.insert("LeakyRelu", elements::leaky_relu);
    operator!(register, "LinearClassifier", linear::classifier);
    operator!(register, "LinearRegressor", linear::regressor);
    register.insert("LogSoftmax", softmax::log_softmax);
    operator!(register, "Normalizer", columns::normalizer);
    operator!(register, "OneHotEncoder", encode::one_hot);
    operator!(register, "QuantizeLinear", quantize::linear);
    register.insert("ReduceLogSumExp", reduce::log_sum_exp);
    register.insert("Round", elements::round);
    operator!(register, "SVMClassifier", svm::classifier);
    operator!(register, "SVMRegressor", svm::regressor);
    operator!(register, "Scaler", scaler::build);
    register.insert("Sigmoid", elements::sigmoid);
    operator!(register, "TreeEnsembleClassifier", tree::classifier);
    operator!(register, "TreeEnsembleRegressor", tree::regressor);
}
