//! Sigmoid, tanh and what is made of them, with onnxruntime's values: given to tract as kernels of its own, so that it has them wherever it
//! computes one, in the cells of recurrent nets and in fused operators too. tract's keep off the ends of the curves: 4.8e-7 and not 0.
//!
//! The quotients of polynomials are those of onnxruntime's library of kernels, MLAS (`logistic.cpp` and `tanh.cpp` there, which take them from
//! Eigen); with products and sums in one step they give its very bits. NaN stays NaN.

use crate::model::registers::{self, Steps};
use tract_onnx::{
    prelude::{TractResult, f16},
    tract_core::{
        internal::{inventory::submit, tract_data::half::slice::HalfFloatSliceExt},
        tract_linalg::{
            element_wise::ElementWise,
            isa::{Arch, IsaReq},
            routines::{Func, Routine, RoutineFactory},
        },
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    Sigmoid,
    Tanh,
    /// A value times its sigmoid.
    Silu,
    /// GELU by tanh (Hendrycks and Gimpel 2016, equation 2).
    Gelu,
}

/// `a * b + c`, rounded once or twice.
#[inline(always)]
fn step<const ONCE: bool>(a: f32, b: f32, c: f32) -> f32 {
    if ONCE { a.mul_add(b, c) } else { a * b + c }
}

/// A polynomial's value, by its coefficients from the highest power on.
#[inline(always)]
fn polynomial<const ONCE: bool, const COUNT: usize>(x: f32, coefficients: &[f32; COUNT]) -> f32 {
    let mut sum = coefficients[0];
    for next in &coefficients[1..] {
        sum = step::<ONCE>(sum, x, *next);
    }
    sum
}

#[inline(always)]
fn sigmoid<const ONCE: bool>(x: f32) -> f32 {
    const OVER: [f32; 5] = [4.370_31e-11, 1.156_273_2e-7, 6.085_749e-5, 8.513_771e-3, 2.482_879_5e-1];
    const UNDER: [f32; 6] =
        [6.102_473_7e-13, 5.761_021_4e-9, 6.291_068e-6, 1.701_988_2e-3, 1.168_176_5e-1, 9.931_519e-1];
    let x = x.clamp(-18.0, 18.0);
    let square = x * x;
    let over = polynomial::<ONCE, _>(square, &OVER) * x;
    (over / polynomial::<ONCE, _>(square, &UNDER) + 0.5).clamp(0.0, 1.0)
}

#[inline(always)]
fn tanh<const ONCE: bool>(x: f32) -> f32 {
    const OVER: [f32; 7] = [
        -2.760_768_4e-16,
        2.000_188e-13,
        -8.604_672e-11,
        5.122_297_3e-8,
        1.485_722_35e-5,
        6.372_619_5e-4,
        4.893_524_6e-3,
    ];
    const UNDER: [f32; 4] = [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_7e-3, 4.893_525e-3];
    let x = x.clamp(-9.0, 9.0);
    let square = x * x;
    polynomial::<ONCE, _>(square, &OVER) * x / polynomial::<ONCE, _>(square, &UNDER)
}

#[inline(always)]
fn gelu<const ONCE: bool>(x: f32) -> f32 {
    const ROOT: f32 = 0.797_884_6;
    let inner = ROOT * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + tanh::<ONCE>(inner))
}

struct Along<'v> {
    curve: Curve,
    values: &'v mut [f32],
}

impl Steps for Along<'_> {
    #[inline(always)]
    fn all<const ONCE: bool>(self) {
        // Loops and not closures, which would be compiled for any processor.
        macro_rules! each {
            ($x:ident => $of:expr) => {
                for $x in self.values {
                    *$x = $of;
                }
            };
        }
        match self.curve {
            Curve::Sigmoid => each!(x => sigmoid::<ONCE>(*x)),
            Curve::Tanh => each!(x => tanh::<ONCE>(*x)),
            Curve::Silu => each!(x => *x * sigmoid::<ONCE>(*x)),
            Curve::Gelu => each!(x => gelu::<ONCE>(*x)),
        }
    }
}

/// Sigmoid of each.
pub(super) fn sigmoid_all(values: &mut [f32]) {
    Curve::Sigmoid.of_all(values);
}

/// Tanh of each.
pub(super) fn tanh_all(values: &mut [f32]) {
    Curve::Tanh.of_all(values);
}

impl Curve {
    /// One function for all curves and callers: where the compiler knows which curve it is, it makes slower code of it.
    #[inline(never)]
    fn of_all(self, values: &mut [f32]) {
        registers::by_steps(Along { curve: self, values });
    }
}

impl ElementWise<f32> for Curve {
    fn name(&self) -> &'static str {
        // Names settle ties between kernels; there are none.
        match self {
            Self::Sigmoid => "tern_sigmoid",
            Self::Tanh => "tern_tanh",
            Self::Silu => "tern_silu",
            Self::Gelu => "tern_gelu",
        }
    }

    fn run_with_params(&self, values: &mut [f32], (): ()) -> TractResult<()> {
        self.of_all(values);
        Ok(())
    }
}

impl ElementWise<f16> for Curve {
    fn name(&self) -> &'static str {
        <Self as ElementWise<f32>>::name(self)
    }

    /// In 32 bits, as onnxruntime does.
    fn run_with_params(&self, values: &mut [f16], (): ()) -> TractResult<()> {
        let mut wide = [0f32; 256];
        for part in values.chunks_mut(wide.len()) {
            let wide = &mut wide[..part.len()];
            part.convert_to_f32_slice(wide);
            self.of_all(wide);
            part.convert_from_f32_slice(wide);
        }
        Ok(())
    }
}

/// tract takes the kernel of the processor's own kind and of most worth.
const HERE: Option<Arch> = if cfg!(target_arch = "x86_64") {
    Some(Arch::X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(Arch::Aarch64)
} else if cfg!(target_arch = "arm") {
    Some(Arch::Arm)
} else if cfg!(target_arch = "riscv64") {
    Some(Arch::RiscV64)
} else {
    None
};

const fn kernel(func: Func, factory: RoutineFactory) -> Routine {
    Routine { func, arch: HERE, isa: IsaReq::ANY, boost: 1_000_000, round_trip: false, factory }
}

macro_rules! kernels {
    ($($curve:ident),*) => {
        $(
            submit! { kernel(Func::$curve, RoutineFactory::F32(|| Box::new(Curve::$curve))) }
            submit! { kernel(Func::$curve, RoutineFactory::F16(|| Box::new(Curve::$curve))) }
        )*
    };
}
kernels!(Sigmoid, Tanh, Silu, Gelu);

#[cfg(test)]
mod tests {
    use super::*;

    fn along(func: Func, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        func.ew_f32().unwrap().run(&mut values).unwrap();
        values
    }

    #[test]
    fn tract_computes_by_these_kernels() {
        for func in [Func::Sigmoid, Func::Tanh, Func::Silu, Func::Gelu] {
            assert!(func.ew_f32().unwrap().name().starts_with("tern_"), "{func:?}");
            assert!(func.ew_f16().unwrap().name().starts_with("tern_"), "{func:?}");
        }
    }

    #[test]
    fn curves_come_to_their_ends() {
        let far = [f32::NEG_INFINITY, -1e30, -20.0, 20.0, 1e30, f32::INFINITY];
        assert_eq!(along(Func::Sigmoid, &far), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(along(Func::Tanh, &far), [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]);
        assert_eq!(along(Func::Silu, &far[1..5]), [0.0, 0.0, 20.0, 1e30]);
        assert_eq!(along(Func::Gelu, &far[1..5]), [0.0, 0.0, 20.0, 1e30]);
        for func in [Func::Sigmoid, Func::Tanh, Func::Silu, Func::Gelu] {
            assert!(along(func, &[f32::NAN; 17]).iter().all(|value| value.is_nan()), "{func:?}");
        }
    }

    #[test]
    fn curves_lie_near_what_they_are_named_for() {
        let places: Vec<f32> = (-20_000..=20_000i16).map(|at| f32::from(at) / 1000.0).collect();
        let exact = |func, x: f64| match func {
            Func::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Func::Tanh => x.tanh(),
            Func::Silu => x / (1.0 + (-x).exp()),
            _ => 0.5 * x * (1.0 + (f64::sqrt(2.0 / std::f64::consts::PI) * (x + 0.044715 * x.powi(3))).tanh()),
        };
        for func in [Func::Sigmoid, Func::Tanh, Func::Silu, Func::Gelu] {
            for (x, got) in places.iter().zip(along(func, &places)) {
                let exact = exact(func, f64::from(*x));
                let far = (f64::from(got) - exact).abs();
                assert!(far <= 3e-7 * exact.abs().max(x.abs().into()).max(1.0), "{func:?} of {x}: {got}, not {exact}");
            }
        }
    }
}
