//! Frames with descriptors between two processes of the agent, over a Unix stream socket. Blocking.
//!
//! Answers for whole frames, bounded lengths and the descriptors that belong to each frame; knows nothing of what the
//! frames mean. The peer may be a process that was taken over: whatever it sends is bounded and checked, and
//! descriptors that nobody asked for are closed.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tern_protocol::frames::{self, FrameError, HEADER_BYTES};

use crate::clock::Moment;

/// Most descriptors beside one frame.
pub const MAX_DESCRIPTORS: usize = 4;

/// Why a frame was not sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other end is gone.
    #[error("the other process closed the channel")]
    Closed,
    /// The time for it has passed.
    #[error("no whole frame in time")]
    TimedOut,
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Another number of descriptors than the frame needs.
    #[error("frame came with {got} descriptors, {expected} belong to it")]
    Descriptors {
        /// How many belong to it.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// The socket failed.
    #[error("channel failed")]
    Io(#[from] io::Error),
}

/// One end of a channel. Frames are read by one owner and written by one owner; [`Channel::try_clone`] splits the two.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Two connected ends; the second is meant for a child's stdin.
    ///
    /// # Errors
    /// Where the system has no descriptors left.
    pub fn pair() -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self { stream: ours }, theirs))
    }

    /// The channel that a parent gave as stdin.
    ///
    /// # Errors
    /// Where stdin is not open. Whether it is a socket shows at the first frame.
    pub fn from_stdin() -> io::Result<Self> {
        Ok(Self { stream: UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?) })
    }

    /// The same end for another thread.
    ///
    /// # Errors
    /// Where the system has no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.try_clone()? })
    }

    /// Makes sends fail that the peer does not take within `limit`.
    ///
    /// # Errors
    /// Where the socket refuses.
    pub fn limit_sends(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_write_timeout(Some(limit))
    }

    /// Ends both directions, which wakes a reader in another thread.
    pub fn close(&self) {
        // Fails only where the peer was faster.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Sends one frame with its descriptors.
    ///
    /// # Errors
    /// [`ChannelError`]; after one the channel is of no more use.
    pub fn send<T: Serialize>(&mut self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        self.send_bytes(&frames::encode(message)?, descriptors)
    }

    /// Sends a frame that is encoded already.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_bytes(&mut self, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if descriptors.len() > MAX_DESCRIPTORS || !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ChannelError::Descriptors { expected: MAX_DESCRIPTORS, got: descriptors.len() });
        }
        let mut sent = 0;
        while sent < frame.len() {
            match sendmsg(&self.stream, &[IoSlice::new(&frame[sent..])], &mut beside, SendFlags::NOSIGNAL) {
                Ok(bytes) => {
                    sent += bytes;
                    beside.clear();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// The next frame and the descriptors that came with it; waits for ever.
    ///
    /// # Errors
    /// [`ChannelError`]; after one the channel is of no more use.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        self.receive_by(None)
    }

    /// The next frame, if it is whole before `deadline`.
    ///
    /// # Errors
    /// As [`Channel::receive`], and [`ChannelError::TimedOut`].
    pub fn receive_by<T: DeserializeOwned>(
        &mut self,
        deadline: Option<Moment>,
    ) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        let mut descriptors = Vec::new();
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header, &mut descriptors, deadline)?;
        let mut body = vec![0; frames::body_length(header)?];
        self.fill(&mut body, &mut descriptors, deadline)?;
        Ok((frames::decode_body(&body)?, descriptors))
    }

    fn fill(&self, buffer: &mut [u8], into: &mut Vec<OwnedFd>, deadline: Option<Moment>) -> Result<(), ChannelError> {
        let mut filled = 0;
        while filled < buffer.len() {
            if let Some(deadline) = deadline {
                let left = deadline.remaining();
                if left.is_zero() {
                    return Err(ChannelError::TimedOut);
                }
                self.stream.set_read_timeout(Some(left))?;
            }
            match self.read_some(&mut buffer[filled..], into) {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(bytes) => filled += bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            if into.len() > MAX_DESCRIPTORS {
                return Err(ChannelError::Descriptors { expected: MAX_DESCRIPTORS, got: into.len() });
            }
        }
        Ok(())
    }

    fn read_some(&self, buffer: &mut [u8], into: &mut Vec<OwnedFd>) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&self.stream, &mut [IoSliceMut::new(buffer)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                into.extend(descriptors);
            }
        }
        // The kernel has dropped descriptors: the frame cannot be served.
        if got.flags.contains(ReturnFlags::CTRUNC) { Err(rustix::io::Errno::MFILE) } else { Ok(got.bytes) }
    }
}

/// Exactly the descriptors that a frame needs.
///
/// # Errors
/// [`ChannelError::Descriptors`] where more or fewer came.
pub fn exactly<const N: usize>(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; N], ChannelError> {
    descriptors.try_into().map_err(|all: Vec<_>| ChannelError::Descriptors { expected: N, got: all.len() })
}

fn failed(errno: rustix::io::Errno) -> ChannelError {
    use rustix::io::Errno;
    match errno {
        Errno::PIPE | Errno::CONNRESET => ChannelError::Closed,
        Errno::AGAIN => ChannelError::TimedOut,
        other => ChannelError::Io(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn pair() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel { stream: theirs })
    }

    #[test]
    fn a_descriptor_arrives_with_its_frame_and_works() {
        let (mut ours, mut theirs) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"model").unwrap();
        ours.send(&1u8, &[file.as_fd()]).unwrap();
        ours.send(&2u8, &[]).unwrap();
        let (first, descriptors): (u8, _) = theirs.receive().unwrap();
        let [copy] = exactly(descriptors).unwrap();
        let mut text = String::new();
        let mut copy = std::fs::File::from(copy);
        std::io::Seek::rewind(&mut copy).unwrap();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!((first, text.as_str()), (1, "model"));
        let (second, none): (u8, _) = theirs.receive().unwrap();
        assert_eq!((second, none.len()), (2, 0));
    }

    #[test]
    fn a_large_frame_crosses_in_pieces() {
        let (mut ours, mut theirs) = pair();
        let sent = vec![7u8; 3 << 20];
        let copy = sent.clone();
        let writer = std::thread::spawn(move || ours.send(&copy, &[]).unwrap());
        let (got, _): (Vec<u8>, _) = theirs.receive().unwrap();
        writer.join().unwrap();
        assert!(got == sent);
    }

    #[test]
    fn each_failure_has_its_variant() {
        let (mut ours, mut theirs) = pair();
        let soon = Some(Moment::now().after(Duration::from_millis(20)));
        assert!(matches!(theirs.receive_by::<u8>(soon), Err(ChannelError::TimedOut)));
        ours.stream.write_all(&[2, 0, 0, 0, 9, 1]).unwrap();
        assert!(matches!(theirs.receive::<u8>(), Err(ChannelError::Frame(FrameError::UnknownVersion(9)))));
        drop(ours);
        let (ours, mut theirs) = pair();
        drop(ours);
        assert!(matches!(theirs.receive::<u8>(), Err(ChannelError::Closed)));
        assert!(matches!(theirs.send(&1u8, &[]), Err(ChannelError::Closed)));
        assert!(matches!(exactly::<1>(vec![]), Err(ChannelError::Descriptors { expected: 1, got: 0 })));
    }

    #[test]
    fn a_frame_that_stops_in_its_middle_times_out() {
        let (mut ours, mut theirs) = pair();
        ours.stream.write_all(&[200, 0, 0, 0, 1, 1]).unwrap();
        let soon = Some(Moment::now().after(Duration::from_millis(20)));
        assert!(matches!(theirs.receive_by::<Vec<u8>>(soon), Err(ChannelError::TimedOut)));
    }
}
