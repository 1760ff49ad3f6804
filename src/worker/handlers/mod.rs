//! The handlers that come with pinfeed. To add one, add a file here, and its name to
//! `cli/run.rs` if the command should offer it.

mod count;
mod print;
mod tapped;

pub use count::{Count, TOPICS_MAX, TopicCount};
pub use print::Print;
pub use tapped::Tapped;

use crate::{message::Message, worker::Handler};

/// Does nothing: the cost of the pipeline alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Null;

impl Handler for Null {
    #[inline]
    fn on_message(&mut self, _message: &Message<'_>) {}
}
