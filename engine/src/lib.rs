//! ONNX models on tract: load a file, pin its shapes, run it, hold it against its golden vectors, tell its facts.
//!
//! The crate answers for what a model file may do before it runs: sizes are bounded before anything is decoded, every
//! call into tract is under `catch_unwind`, and each refusal has its own error variant.
//! It has no clock, opens no network, writes nothing, and reads files only in [`golden::load_dir`].
//! Types of tract never leave it.
//!
//! What it cannot stop: an operator that loops for ever, or that asks for more memory than there is (Rust aborts then).
//! A model from elsewhere is therefore loaded first in a process that is limited in memory, CPU and time: [`sandbox`].

mod check;
mod convert;
mod decode;
mod dtype;
mod error;
mod facts;
#[cfg(test)]
mod fixtures;
pub mod golden;
mod guard;
mod limits;
mod model;
mod ops;
mod rewrite;
#[cfg(test)]
mod robustness;
pub mod sandbox;
mod spec;
mod tensor;
mod tensor_proto;

pub use dtype::{DType, UnknownDType};
pub use error::{LoadError, RunError};
pub use facts::{Declared, Dim, Facts, Inspection, Macs, Opset, Quantisation, inspect};
pub use limits::Limits;
pub use model::Model;
pub use spec::TensorSpec;
pub use tensor::{Data, Element, Tensor, TensorError};
pub use tensor_proto::{TensorFileError, tensor_from_pb, tensor_to_pb};
