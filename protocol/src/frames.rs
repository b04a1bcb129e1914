//! Frames between the agent's own processes: control and worker, control and probe.
//!
//! A frame is a length (u32, little-endian, of what follows), a format version (one byte) and postcard. Both ends are one
//! binary, so a foreign version is refused and never read. Descriptors travel beside a frame (SCM_RIGHTS); each frame says
//! how many ([`ToWorker::descriptors`]).

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use tern_stats::window::Window;

use crate::{
    ids::Version,
    manifest::Tolerance,
    refusal::RefusalCode,
    report::v1::{ErrorCount, Violations},
};

/// The format version of all frames.
pub const VERSION: u8 = 1;
/// Length of the header: the length and the version.
pub const HEADER_BYTES: usize = 5;
/// Longest frame without its header's length, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_BYTES`], or without a version.
    #[error("frame length {0} is out of bounds")]
    BadLength(usize),
    /// Another format version.
    #[error("frame has version {0}, this process speaks {VERSION}")]
    UnknownVersion(u8),
    /// The body is not of its form.
    #[error("malformed frame")]
    Malformed,
    /// Bytes follow the message.
    #[error("{0} bytes follow the message in a frame")]
    LeftoverBytes(usize),
}

/// The frame of `message`.
///
/// # Errors
/// Where it would be longer than [`MAX_BYTES`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_stdvec(message).map_err(|_| FrameError::Malformed)?;
    let length = body.len() + 1;
    let header = u32::try_from(length).ok().filter(|_| length <= MAX_BYTES).ok_or(FrameError::BadLength(length))?;
    let mut frame = header.to_le_bytes().to_vec();
    frame.push(VERSION);
    frame.extend(body);
    Ok(frame)
}

/// The length of the body that follows this header.
///
/// # Errors
/// Where the length is out of bounds or the version is another.
pub fn body_length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let [a, b, c, d, version] = header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length == 0 || length > MAX_BYTES {
        return Err(FrameError::BadLength(length));
    }
    if version != VERSION {
        return Err(FrameError::UnknownVersion(version));
    }
    Ok(length - 1)
}

/// The message in a frame's body.
///
/// # Errors
/// Where the body is not exactly one message.
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (message, rest) = postcard::take_from_bytes(body).map_err(|_| FrameError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(FrameError::LeftoverBytes(rest.len())) }
}

/// A loaded version in the worker; control numbers them and never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u64);

/// From control to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Limits to keep; the first frame.
    Configure(Limits),
    /// Serve the inference API on the listener that comes along.
    Listen(ListenerKind),
    /// Load a version beside what runs. The ONNX file comes along.
    Load {
        /// Its number.
        slot: Slot,
        /// Its manifest's bytes, which control has verified.
        manifest: Vec<u8>,
        /// Its reference profile's bytes, likewise; empty where the bundle has none, and then no feature is watched.
        reference: Vec<u8>,
    },
    /// Let this loaded version answer for its model from now on.
    Swap {
        /// Which.
        slot: Slot,
    },
    /// Let its running requests end and drop it.
    Drain {
        /// Which.
        slot: Slot,
    },
    /// Prove that the inference loop turns.
    Heartbeat {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// Let running requests end and leave.
    Stop,
    /// Models that answer nothing for now, and what to tell who asks; what was said before is forgotten.
    Silent(Vec<(String, String)>),
}

impl ToWorker {
    /// How many descriptors travel beside the frame.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Listen(_) | Self::Load { .. } => 1,
            _ => 0,
        }
    }
}

/// What a listener listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerKind {
    /// A Unix stream socket.
    Unix,
    /// A TCP socket on loopback.
    Tcp,
}

/// Limits of the inference API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Threads that run models.
    pub threads: u32,
    /// Requests that may wait for a thread; one more is answered 429.
    pub queue: u32,
    /// Connections at once; one more is closed.
    pub connections: u32,
    /// Longest request body, in bytes.
    pub request_bytes: u64,
    /// Longest time from the request's last byte to its answer, in milliseconds.
    pub deadline_ms: u64,
    /// How often increments are sent, in milliseconds.
    pub increment_ms: u64,
}

/// From worker to control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Sandboxed and configured.
    Ready {
        /// What the kernel or the machine lacks of the sandbox, for the log and `doctor`; empty where all holds.
        lacking: Vec<String>,
    },
    /// A version is loaded and warm.
    Loaded {
        /// Which.
        slot: Slot,
        /// How long loading and warming took, in milliseconds.
        load_ms: u64,
    },
    /// A version cannot be loaded; its slot is gone.
    LoadFailed {
        /// Which.
        slot: Slot,
        /// Why.
        code: RefusalCode,
        /// The same for people.
        message: String,
    },
    /// The version answers for its model.
    Swapped {
        /// Which.
        slot: Slot,
    },
    /// The version is dropped.
    Drained {
        /// Which.
        slot: Slot,
    },
    /// The inference loop turns.
    Heartbeat {
        /// From the question.
        nonce: u64,
    },
    /// What happened since the increment before.
    Increment(Box<Increment>),
}

/// What a version did since the increment before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Increment {
    /// Which.
    pub slot: Slot,
    /// Its number among those of its slot, from 1: labels that come later name it.
    pub number: u64,
    /// Inferences answered.
    pub inferences: u64,
    /// Rows in them.
    pub rows: u64,
    /// Errors by kind.
    pub errors: Vec<ErrorCount>,
    /// Contract violations.
    pub violations: Violations,
    /// Sum of the latencies of answered inferences, in microseconds.
    pub latency_sum_us: u64,
    /// The longest of them.
    pub latency_max_us: u64,
    /// All of them, in microseconds: a KLL sketch in the form of `tern_stats::latency`; empty for none.
    pub latency: Vec<u8>,
    /// Sums over what is watched, counted by the reference profile. Without one it holds the rows only; `labels` is always
    /// empty here, see [`Increment::labels`].
    pub sums: Window,
    /// Labels that came since the increment before, for rows of this one and of earlier ones.
    pub labels: Vec<LateLabels>,
}

/// Labels that came for predictions of one increment and confidence bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateLabels {
    /// The number of the increment that the predictions were counted in.
    pub increment: u64,
    /// The confidence bin, in the reference profile's bins; 0 where there are none.
    pub bin: u32,
    /// Labels that came.
    pub n: u64,
    /// Predictions that they contradict.
    pub errors: u64,
}

/// From control to probe: try this version. Two files come along: the ONNX file, and the golden tensors one after the other
/// in the order of `cases`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// The manifest's bytes, which control has verified.
    pub manifest: Vec<u8>,
    /// Its reference profile's bytes, likewise; empty where the bundle has none.
    pub reference: Vec<u8>,
    /// For each golden vector the lengths of its tensors.
    pub cases: Vec<ProbeCase>,
    /// How far answers may lie from the golden ones.
    pub tolerance: Tolerance,
    /// How often each golden vector is run to measure latency.
    pub repetitions: u32,
    /// Most address space, in bytes.
    pub memory_bytes: u64,
    /// Most processor time, in seconds.
    pub cpu_seconds: u64,
}

/// The lengths of a golden vector's tensors, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeCase {
    /// Of the inputs, in order.
    pub inputs: Vec<u64>,
    /// Of the outputs, in order.
    pub outputs: Vec<u64>,
}

/// From probe to control: the one result frame. No frame is a failure, whatever the exit code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ProbeResult {
    /// Every golden vector agrees and the budgets hold as far as the probe knows them.
    Passed(ProbeFacts),
    /// The version must not run here.
    Failed {
        /// Why.
        code: RefusalCode,
        /// The same for people.
        message: String,
    },
}

/// What the probe measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeFacts {
    /// Golden vectors that agree.
    pub cases: u32,
    /// Largest absolute difference from a golden answer.
    pub max_absolute: f64,
    /// Time to load, in microseconds.
    pub load_us: u64,
    /// Median and 95th percentile of one run at the golden batch, in microseconds.
    pub latency_us: (u64, u64),
    /// Peak resident memory of the probe above what it had before loading, in bytes.
    pub peak_rss_bytes: u64,
    /// The engine that judged.
    pub agent_version: Version,
    /// What the kernel lacks of the sandbox.
    pub lacking: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
        let (header, body) = frame.split_at(HEADER_BYTES);
        assert_eq!(body_length(header.try_into().unwrap())?, body.len());
        decode_body(body)
    }

    #[test]
    fn frames_have_golden_bytes() {
        let limits = Limits { threads: 1, queue: 2, connections: 3, request_bytes: 4, deadline_ms: 5, increment_ms: 6 };
        let increment = Increment {
            slot: Slot(1),
            number: 9,
            inferences: 2,
            rows: 3,
            errors: vec![],
            violations: Violations::default(),
            latency_sum_us: 4,
            latency_max_us: 5,
            latency: vec![],
            sums: Window { rows: 3, ..Window::default() },
            labels: vec![LateLabels { increment: 8, bin: 1, n: 2, errors: 1 }],
        };
        let to_worker = [
            (ToWorker::Configure(limits), "080000000100010203040506"),
            (ToWorker::Listen(ListenerKind::Tcp), "03000000010101"),
            (ToWorker::Load { slot: Slot(300), manifest: vec![7], reference: vec![] }, "070000000102ac02010700"),
            (ToWorker::Stop, "020000000106"),
            (ToWorker::Silent(vec![("m".into(), "w".into())]), "07000000010701016d0177"),
        ];
        for (message, golden) in to_worker {
            let frame = encode(&message).unwrap();
            assert_eq!(hex::encode(&frame), golden, "{message:?}");
            assert_eq!(read(&frame), Ok(message));
        }
        let from_worker = FromWorker::Increment(Box::new(increment));
        let frame = encode(&from_worker).unwrap();
        assert_eq!(
            hex::encode(&frame),
            "17000000010601090203000000000405".to_owned() + "00" + "0300000000" + "0108010201"
        );
        assert_eq!(read(&frame), Ok(from_worker));
    }

    #[test]
    fn each_broken_frame_has_its_variant() {
        assert_eq!(body_length([0, 0, 0, 0, 1]), Err(FrameError::BadLength(0)));
        assert_eq!(body_length([255, 255, 255, 255, 1]), Err(FrameError::BadLength(u32::MAX as usize)));
        assert_eq!(body_length([1, 0, 0, 0, 2]), Err(FrameError::UnknownVersion(2)));
        assert_eq!(decode_body::<ToWorker>(&[6, 0]), Err(FrameError::LeftoverBytes(1)));
        assert_eq!(decode_body::<ToWorker>(&[99]), Err(FrameError::Malformed));
        let huge = ToWorker::Load { slot: Slot(1), manifest: vec![0; MAX_BYTES], reference: vec![] };
        assert!(matches!(encode(&huge), Err(FrameError::BadLength(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_body::<ToWorker>(&body);
            let _ = decode_body::<FromWorker>(&body);
            let _ = decode_body::<ProbeRequest>(&body);
            let _ = decode_body::<ProbeResult>(&body);
        }
    }
}
