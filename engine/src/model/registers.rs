//! tract's assembly kernels for AVX and AVX-512 return without VZEROUPPER. While the upper halves of the vector registers are in use,
//! each SSE instruction of that thread, which is what Rust makes for `x86_64`, waits for them: what follows is several times slower
//! (docs/decisions/0010). And some of them read past the ends of what they are given (0011).

use std::cell::Cell;
use tract_onnx::{
    prelude::{TValue, TVec, TractResult, TypedSimpleState},
    tract_core::plan,
};

/// Keeps tract from its products on AMX tiles, before it looks at what the processor has.
pub(crate) fn without_tiles() {
    #[cfg(target_arch = "x86_64")]
    tract_onnx::tract_core::tract_linalg::knobs::TRACT_CPU_ISA.set(Some("-amx-int8,-amx-bf16".into()));
}

/// What a plan answers in this state. The registers rest after each of its operators; `at` is the number of the one that was begun last,
/// which tells of a panic where it was.
pub(crate) fn run(state: &mut TypedSimpleState, inputs: TVec<TValue>, at: &Cell<usize>) -> TractResult<TVec<TValue>> {
    state.run_plan_with_eval(inputs, |context, state, node, inputs| {
        at.set(node.id);
        rested(|| plan::eval(context, state, node, inputs))
    })
}

/// What this answers; then the registers rest.
pub(crate) fn rested<T>(answer: impl FnOnce() -> T) -> T {
    let answer = answer();
    rest();
    answer
}

/// What is compiled twice: for processors that multiply and add in one step, and for others.
pub(crate) trait Steps {
    /// Does it; `ONCE` if a product and a sum are one step, that is rounded once. To be inlined, with all that it calls.
    fn all<const ONCE: bool>(self);
}

/// Does this by the steps that the processor has.
#[inline]
pub(crate) fn by_steps(what: impl Steps) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn fused(what: impl Steps) {
            what.all::<true>();
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            #[expect(unsafe_code, reason = "code for instructions that not every processor has")]
            // SAFETY: the processor has AVX2 and FMA.
            unsafe {
                fused(what);
            }
            return;
        }
        what.all::<false>();
    }
    #[cfg(target_arch = "aarch64")]
    what.all::<true>();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    what.all::<false>();
}

/// Says that the upper halves of the vector registers are not in use.
#[inline]
fn rest() {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx")]
        fn zero_upper() {
            std::arch::x86_64::_mm256_zeroupper();
        }
        if std::arch::is_x86_feature_detected!("avx") {
            #[expect(unsafe_code, reason = "the only way to an instruction that not every processor has")]
            // SAFETY: the processor has AVX. Between calls no upper half is in use: the calling convention keeps none.
            unsafe {
                zero_upper();
            }
        }
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;
    use tract_onnx::tract_core::tract_linalg::isa::{Isa, native};

    #[test]
    fn no_product_reads_by_tiles() {
        without_tiles();
        assert!(!native().has(Isa::X86_64AmxInt8) && !native().has(Isa::X86_64AmxBf16));
    }
}
