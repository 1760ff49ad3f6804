//! Compressed frames: zlib, into one buffer that a lane keeps.
//!
//! A frame is inflated in one go into a buffer as large as the limit allows and one byte more, which
//! tells a frame that reaches the limit from one that goes over it. So a frame that would inflate to
//! gigabytes costs no more than one at the limit, and after the first nothing is allocated; memory that
//! no message has needed is never touched, so the kernel does not give it either.

use flate2::{Decompress, FlushDecompress, Status};

use crate::ledger::Rejection;

/// The limit on an inflated frame where nothing else is said: that on messages.
pub const INFLATED_BYTES_MAX: usize = 1024 * 1024;
/// The largest limit.
pub const INFLATED_LIMIT_BYTES_MAX: usize = 1 << 30;

/// Which frame is compressed with zlib, and how large it may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inflation {
    /// The frame, counted from 0.
    pub frame: usize,
    /// The most bytes that it may inflate to, up to [`INFLATED_LIMIT_BYTES_MAX`].
    pub bytes_max: usize,
}

/// What inflates frames, with the buffer it inflates them into.
#[derive(Debug)]
pub struct Inflater {
    zlib: Decompress,
    buffer: Box<[u8]>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            zlib: Decompress::new(true),
            buffer: Box::default(),
        }
    }
}

impl Inflater {
    /// Inflates a frame to at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`Rejection::TooInflated`], or [`Rejection::Corrupt`] where it is not one zlib stream, whole and
    /// with nothing behind it.
    pub fn inflate(&mut self, frame: &[u8], bytes_max: usize) -> Result<&[u8], Rejection> {
        let bytes_max = bytes_max.min(INFLATED_LIMIT_BYTES_MAX);
        if self.buffer.len() <= bytes_max {
            self.buffer = vec![0; bytes_max + 1].into_boxed_slice();
        }
        let room = &mut self.buffer[..=bytes_max];
        self.zlib.reset(true);
        let status = self.zlib.decompress(frame, room, FlushDecompress::Finish);
        let inflated_bytes = self.zlib.total_out() as usize;
        if inflated_bytes > bytes_max {
            return Err(Rejection::TooInflated);
        }
        let whole = self.zlib.total_in() == frame.len() as u64;
        match status {
            Ok(Status::StreamEnd) if whole => Ok(&self.buffer[..inflated_bytes]),
            _ => Err(Rejection::Corrupt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::ZlibEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_limit_is_kept_to_the_byte() {
        let mut inflater = Inflater::default();
        for size in [0, 1, 999, 1_000, 1_001, 100_000, 10_000_000, 5] {
            let bytes = vec![b'x'; size];
            let expected = if size <= 1_000 {
                Ok(&bytes[..])
            } else {
                Err(Rejection::TooInflated)
            };
            assert_eq!(inflater.inflate(&deflate(&bytes), 1_000), expected);
        }
        assert_eq!(inflater.buffer.len(), 1_001);
    }

    #[test]
    fn what_is_not_one_whole_stream_is_corrupt() {
        let whole = deflate(b"the bytes of a message");
        let mut inflater = Inflater::default();
        let mut wrong_sum = whole.clone();
        *wrong_sum.last_mut().unwrap() ^= 1;
        for frame in [
            &whole[..whole.len() - 1],
            &whole[..3],
            b"",
            b"{\"plain\": 1}",
            &[&whole[..], b"more"].concat(),
            &wrong_sum,
        ] {
            assert_eq!(inflater.inflate(frame, 1_000), Err(Rejection::Corrupt));
            assert!(inflater.inflate(&whole, 1_000).is_ok());
        }
    }

    proptest! {
        #[test]
        fn what_is_deflated_inflates(bytes: Vec<u8>, more: Vec<u8>) {
            let mut inflater = Inflater::default();
            let _ = inflater.inflate(&more, 64);
            prop_assert_eq!(inflater.inflate(&deflate(&bytes), 1_000), Ok(&bytes[..]));
        }
    }
}
