//! Bounds on what a model file and a request may ask for.

/// What a model may cost; checked before the cost is paid wherever the file tells it beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the model file.
    pub file_bytes: u64,
    /// Memory, in bytes, that decoding the file may take. A crafted file of tiny messages grows a hundredfold.
    pub decoded_bytes: u64,
    /// Operators in the graph, those of nested graphs included.
    pub operators: usize,
    /// Bytes of any single tensor that a compiled plan computes.
    pub tensor_bytes: u64,
    /// Rows in one call of a model whose batch size is open.
    pub batch: usize,
    /// Compiled plans kept, one per batch size; the least recently used goes first. At least 1.
    pub plans: usize,
}

impl Default for Limits {
    /// 256 MiB of file, 768 MiB decoded, 100,000 operators, 512 MiB a tensor, 4,096 rows, 8 plans.
    fn default() -> Self {
        Self {
            file_bytes: 256 << 20,
            decoded_bytes: 768 << 20,
            operators: 100_000,
            tensor_bytes: 512 << 20,
            batch: 4096,
            plans: 8,
        }
    }
}
