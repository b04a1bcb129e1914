//! Operators that tract lacks or answers wrongly, registered over its own by name: one file per family.
//!
//! An operator is a [`kernel::Kernel`]: it is built from a node's attributes, which it checks in full, says what comes out for what goes
//! in, and computes it. `kernel` alone knows how tract wants to be told. What onnxruntime answers is right.

mod arithmetic;
mod boxes;
mod branch;
mod cast;
mod columns;
mod cumsum;
mod curves;
mod dequantize;
mod dots;
mod einsum;
mod either;
mod elements;
mod encode;
mod equal;
mod farthest;
mod found;
mod fourier;
mod gemm;
mod grid_sample;
mod images;
mod indices;
mod kernel;
mod labels;
mod likeness;
mod linear;
mod losses;
mod matrices;
mod mean;
mod moments;
mod pad;
mod picks;
mod post;
mod products;
mod quantize;
mod quantized_lstm;
mod recurrent;
mod reduce;
mod remainder;
mod repeat;
mod resample;
mod scaler;
mod shift;
mod slice;
mod softmax;
mod squeeze;
mod svm;
mod text;
mod transposed;
mod tree;
mod triangle;
mod windows;

use branch::Choice;
use kernel::{Built, operator, wrap};
use repeat::Repeated;
use std::sync::OnceLock;
pub(crate) use text::KEEPS_ROWS;
use tract_onnx::{
    Onnx,
    model::{OnnxOpRegister, ParsingContext},
    pb::NodeProto,
    prelude::{TractResult, TypedModel},
    tract_core::ops::scan::{OptScan, Scan},
    tract_hir::{
        internal::{Expansion, InferenceModel, InferenceOp, Op, TypedOp, anyhow},
        ops::scan::InferenceScan,
    },
};

type Builder = fn(&ParsingContext<'_>, &NodeProto) -> Built;

/// tract's own builder of an operator that has forms of this folder beside it.
fn stock(name: &str) -> TractResult<Builder> {
    static STOCK: OnceLock<Onnx> = OnceLock::new();
    let stock = STOCK.get_or_init(tract_onnx::onnx);
    stock.op_register.0.get(name).copied().ok_or_else(|| anyhow!("tract has no operator {name}"))
}

/// tract's own operator, to be asked for the forms of it that are right.
fn stock_expansion(name: &str, context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Box<dyn Expansion>> {
    let (built, _) = stock(name)?(context, node)?;
    as_expansion(&*built).ok_or_else(|| anyhow!("tract's {name} is not what it was"))
}

/// What tract's reader was given, as the rules and nodes that it stands for.
fn as_expansion(built: &dyn InferenceOp) -> Option<Box<dyn Expansion>> {
    built.as_op().downcast_ref::<Box<dyn Expansion>>().cloned()
}

/// The models that an operator of a plan runs within it.
pub(crate) fn inner_models(op: &dyn TypedOp) -> Vec<&TypedModel> {
    if let Some(scan) = op.downcast_ref::<OptScan>() {
        return vec![scan.plan.model()];
    }
    if let Some(scan) = op.downcast_ref::<Scan>() {
        return vec![&scan.body];
    }
    if let Some(repeated) = op.downcast_ref::<Repeated>() {
        return vec![repeated.model()];
    }
    op.downcast_ref::<Choice>().map_or_else(Vec::new, |choice| choice.models().to_vec())
}

/// The graphs nested in an operator of a file.
pub(crate) fn bodies(op: &mut dyn Op) -> Vec<&mut InferenceModel> {
    if op.is::<InferenceScan>() {
        return op.downcast_mut::<InferenceScan>().map_or_else(Vec::new, |scan| vec![&mut scan.body]);
    }
    if op.is::<repeat::Loop>() {
        return repeat::body(op).into_iter().collect();
    }
    branch::bodies(op)
}

/// Whether an operator needs no more than its inputs to answer.
pub(crate) fn is_plain(op: &dyn TypedOp) -> bool {
    op.is::<kernel::Node>()
}

/// Puts the operators of this folder into tract's reader.
pub(crate) fn register(reader: &mut Onnx) {
    let register = &mut reader.op_register;
    learned(register);
    operator!(register, "AffineGrid", images::affine_grid);
    operator!(register, "CDist", matrices::distances);
    register.insert("Cast", cast::to);
    register.insert("CastLike", cast::like);
    operator!(register, "BitShift", shift::shift);
    register.insert("Celu", elements::celu);
    operator!(register, "CenterCropPad", picks::center_crop_pad);
    operator!(register, "Col2Im", windows::col2im);
    register.insert("Clip", arithmetic::clip);
    register.insert("Compress", found::compress);
    register.insert("ConstantOfShape", picks::constant_of_shape);
    register.insert("ConvTranspose", transposed::conv);
    register.insert("CumSum", cumsum::running);
    register.insert("DFT", fourier::discrete);
    operator!(register, "DeformConv", images::deform_conv);
    register.insert("DequantizeLinear", dequantize::linear);
    operator!(register, "Det", matrices::det);
    register.insert("Div", arithmetic::div);
    operator!(register, "DynamicQuantizeLSTM", quantized_lstm::lstm);
    operator!(register, "DynamicQuantizeLinear", quantize::dynamic);
    register.insert("Einsum", einsum::einsum);
    register.insert("Elu", elements::elu);
    register.insert("Equal", equal::equal);
    register.insert("GRU", recurrent::gru);
    register.insert("GatherND", indices::gather_nd);
    register.insert("Gelu", elements::gelu);
    register.insert("Gemm", gemm::product);
    operator!(register, "GlobalLpPool", windows::global_lp_pool);
    register.insert("GridSample", grid_sample::read);
    register.insert("HardSigmoid", elements::hard_sigmoid);
    register.insert("If", branch::conditional);
    register.insert("IsInf", elements::is_inf);
    register.insert("IsNaN", elements::is_nan);
    register.insert("LeakyRelu", elements::leaky_relu);
    register.insert("LSTM", recurrent::lstm);
    register.insert("Loop", repeat::rounds);
    register.insert("LogSoftmax", softmax::log_softmax);
    register.insert("LpPool", windows::lp_pool);
    register.insert("MatMul", products::mat_mul);
    operator!(register, "Max", farthest::greatest);
    operator!(register, "MaxUnpool", windows::max_unpool);
    register.insert("MatMulInteger", products::mat_mul_integer);
    operator!(register, "MeanVarianceNormalization", moments::normalised);
    register.insert("Mean", mean::mean);
    operator!(register, "Min", farthest::least);
    operator!(register, "Mod", remainder::remainder);
    register.insert("Mul", arithmetic::mul);
    operator!(register, "NegativeLogLikelihoodLoss", losses::negative_log_likelihood);
    register.insert("NonMaxSuppression", boxes::best);
    operator!(register, "OneHot", indices::one_hot);
    register.insert("Pad", pad::pad);
    register.insert("Pow", arithmetic::pow);
    operator!(register, "QuantizeLinear", quantize::linear);
    register.insert("RNN", recurrent::rnn);
    register.insert("Range", indices::range);
    reduce::register(register);
    register.insert("Resize", resample::resize);
    operator!(register, "ReverseSequence", picks::reverse_sequence);
    register.insert("RoiAlign", images::roi_align);
    register.insert("Round", elements::round);
    register.insert("Selu", elements::selu);
    register.insert("Sigmoid", elements::sigmoid);
    register.insert("STFT", fourier::short_time);
    register.insert("ScatterND", indices::scatter_nd);
    register.insert("Slice", slice::slice);
    operator!(register, "SoftmaxCrossEntropyLoss", losses::softmax_cross_entropy);
    register.insert("Softplus", elements::softplus);
    register.insert("Squeeze", squeeze::squeeze);
    register.insert("Swish", elements::swish);
    operator!(register, "Trilu", triangle::triangle);
    register.insert("Unique", found::unique);
    register.insert("Upsample", resample::upsample);
}

/// Those of tables, texts and what is learned of them.
fn learned(register: &mut OnnxOpRegister) {
    operator!(register, "ArrayFeatureExtractor", columns::array_feature_extractor);
    operator!(register, "Binarizer", columns::binarizer);
    operator!(register, "CategoryMapper", encode::category_mapper);
    operator!(register, "FeatureVectorizer", columns::feature_vectorizer);
    operator!(register, "Imputer", columns::imputer);
    register.insert("LabelEncoder", |context, node| Ok((wrap(node, encode::label(context, node)?), Vec::new())));
    operator!(register, "LinearClassifier", linear::classifier);
    operator!(register, "LinearRegressor", linear::regressor);
    operator!(register, "MurmurHash3", text::murmur);
    operator!(register, "Normalizer", columns::normalizer);
    operator!(register, "OneHotEncoder", encode::one_hot);
    operator!(register, "SVMClassifier", svm::classifier);
    operator!(register, "SVMRegressor", svm::regressor);
    operator!(register, "Scaler", scaler::build);
    register.insert("StringNormalizer", text::string_normalizer);
    operator!(register, "TfIdfVectorizer", text::tf_idf);
    operator!(register, "TfIdfVectorizer of a Tokenizer", text::counted);
    register.insert("Tokenizer", text::tokenizer);
    operator!(register, "TreeEnsemble", tree::ensemble);
    operator!(register, "TreeEnsembleClassifier", tree::classifier);
    operator!(register, "TreeEnsembleRegressor", tree::regressor);
}
