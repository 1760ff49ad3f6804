//! What a reactor tells, and to whom.

use crate::{
    patterns::reactor::{End, Link, Links, Shift, SocketId},
    zmtp::Subscription,
};

/// What a reactor's events are for.
pub trait Application {
    /// A message has come.
    fn on_message(&mut self, links: &mut Links, link: Link, frames: &[&[u8]]);

    /// A peer's handshake is done.
    fn on_open(&mut self, _links: &mut Links, _link: Link) {}

    /// A subscriber has subscribed or cancelled; [`Links`] know of it already. `shift` says whether that
    /// changed anything for all peers of the socket together.
    fn on_subscription(
        &mut self,
        _links: &mut Links,
        _link: Link,
        _subscription: Subscription<'_>,
        _shift: Shift,
    ) {
    }

    /// All that waited for a peer has been sent, as [`Links::tell_when_sent`] asked for.
    fn on_room(&mut self, _links: &mut Links, _link: Link) {}

    /// So many messages waited for a peer whose connection has ended, which [`on_close`](Self::on_close) tells next.
    fn on_given_up(&mut self, _link: Link, _messages: u64) {}

    /// A connection whose handshake was done has ended. `orphaned` are the prefixes that nobody is
    /// subscribed to any more.
    fn on_close(&mut self, _links: &mut Links, _link: Link, _end: &End, _orphaned: &[Box<[u8]>]) {}

    /// A peer was hung up on, or a connection failed, before its handshake was done. Of an endpoint that
    /// is connected to only the first failure since it was last reached is told, with its name.
    fn on_refused(&mut self, _socket: SocketId, _endpoint: Option<&str>, _end: &End) {}

    /// Somebody has rung the [`Waker`](super::Waker).
    fn on_wake(&mut self, _links: &mut Links) {}

    /// All that had come has been told. What is put into outboxes now leaves at once.
    fn on_turn_end(&mut self, _links: &mut Links) {}

    /// Returns when [`on_time`](Self::on_time) is due, by the reactor's clock, in nanoseconds.
    fn due_ns(&self) -> Option<u64> {
        None
    }

    /// What was due, is due.
    fn on_time(&mut self, _links: &mut Links) {}
}
