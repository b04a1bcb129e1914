//! Plain tensors: a shape and its values in row-major order. The only tensor type that callers of the crate see.
//!
//! A [`Tensor`] cannot exist with a shape that does not fit its values.

use crate::dtype::DType;
use thiserror::Error;

/// The values of a tensor in row-major order, one variant per element type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the element type of the same name")]
pub enum Data {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
}

/// A Rust type that is the element of a tensor.
pub trait Element: Sized {
    /// The element type.
    const DTYPE: DType;
    /// The values, if `data` holds this element type.
    fn values(data: &Data) -> Option<&[Self]>;
}

macro_rules! elements {
    ($($variant:ident: $element:ty),*) => {
        impl Data {
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant),* }
            }

            /// No values of this element type.
            pub(crate) fn none(dtype: DType) -> Self {
                match dtype { $(DType::$variant => Self::$variant(Vec::new())),* }
            }

            /// The number of values.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(values) => values.len()),* }
            }
        }
        $(
            impl From<Vec<$element>> for Data {
                fn from(values: Vec<$element>) -> Self { Self::$variant(values) }
            }
            impl Element for $element {
                const DTYPE: DType = DType::$variant;
                fn values(data: &Data) -> Option<&[Self]> {
                    match data { Data::$variant(values) => Some(values), _ => None }
                }
            }
        )*
    };
}

elements!(
    Bool: bool, U8: u8, U16: u16, U32: u32, U64: u64, I8: i8, I16: i16, I32: i32, I64: i64, F32: f32, F64: f64,
    Bytes: Vec<u8>
);

impl Data {
    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a shape and values make no tensor.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TensorError {
    /// The product of the dimensions is more than this machine can count.
    #[error("shape {shape:?} holds more values than can be counted")]
    Overflow {
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// The shape asks for another number of values than there are.
    #[error("shape {shape:?} holds {expected} values, got {got}")]
    Length {
        /// The shape asked for.
        shape: Vec<usize>,
        /// Product of the dimensions.
        expected: usize,
        /// Values given.
        got: usize,
    },
}

/// A shape and its values; scalars have the empty shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of `shape` over `data` in row-major order.
    ///
    /// # Errors
    /// [`TensorError`] if the product of the dimensions overflows or is not the number of values.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Data>) -> Result<Self, TensorError> {
        let (shape, data) = (shape.into(), data.into());
        match volume(&shape) {
            None => Err(TensorError::Overflow { shape }),
            Some(expected) if expected != data.len() => Err(TensorError::Length { shape, expected, got: data.len() }),
            Some(_) => Ok(Self { shape, data }),
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The dimensions, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The values, if they are of type `T`.
    pub fn values<T: Element>(&self) -> Option<&[T]> {
        T::values(&self.data)
    }

    /// The shape and the values, without a copy.
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }
}

/// The number of values in a shape, unless it overflows. Zero anywhere makes it zero, whatever the rest.
pub(crate) fn volume(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1, |total: usize, dim| total.checked_mul(*dim)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shape_must_hold_the_values() {
        let wrong = Tensor::new([2, 3], vec![0f32; 5]);
        assert_eq!(wrong, Err(TensorError::Length { shape: vec![2, 3], expected: 6, got: 5 }));
        let huge = Tensor::new([usize::MAX, 2], vec![0u8]);
        assert_eq!(huge, Err(TensorError::Overflow { shape: vec![usize::MAX, 2] }));
    }

    #[test]
    fn scalars_and_empty_tensors_are_tensors() {
        assert_eq!(Tensor::new([], vec![7i64]).unwrap().values::<i64>(), Some(&[7i64][..]));
        let empty = Tensor::new([usize::MAX, 0, usize::MAX], Vec::<bool>::new()).unwrap();
        assert!(empty.data().is_empty());
        assert_eq!(empty.values::<u8>(), None);
    }

    proptest! {
        #[test]
        fn a_tensor_exists_exactly_if_the_product_fits(shape in prop::collection::vec(0usize..6, 0..5), got in 0usize..64) {
            let expected: usize = shape.iter().product();
            prop_assert_eq!(Tensor::new(shape, vec![0i16; got]).is_ok(), expected == got);
        }
    }
}
