//! Numbers only: sketches, detectors and sequential tests.
//!
//! Never: bytes on a wire, keys, a clock, I/O. Time and rows arrive as arguments.
