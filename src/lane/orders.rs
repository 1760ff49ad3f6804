//! What a running lane may be asked for from outside: to subscribe, to no longer, and to move a shard.
//!
//! Orders come through a bounded queue, and a byte in an eventfd wakes a lane that sleeps until
//! something arrives.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
};

use crossbeam::channel::{self, Receiver, Sender};
use rustix::event::{EventfdFlags, eventfd};

/// Orders that wait for a lane before it is said to be too busy.
const ORDERS_MAX: usize = 16_384;

/// What a lane is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Subscribe(Change),
    Move(MoveOrder),
}

/// A shard that is to go to a worker, both by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MoveOrder {
    /// Of all moves asked for, counted from 1: all lanes get them in this order, and a feed that comes by several
    /// takes each but once.
    pub number: u64,
    pub shard: usize,
    pub worker: usize,
}

/// A change of what a feed is subscribed to.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The feed's place in the configuration.
    pub feed: u16,
    /// What the topics start with.
    pub prefix: Vec<u8>,
    /// Whether to subscribe, or no longer to.
    pub subscribe: bool,
}

/// A lane's end.
pub(crate) struct Orders {
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
}

/// The other end.
#[derive(Clone, Debug)]
pub(crate) struct OrderSender {
    orders: Sender<Order>,
    bell: Arc<OwnedFd>,
}

/// Makes both ends.
///
/// # Errors
/// The kernel's: the process has too many files open.
pub(crate) fn orders() -> io::Result<(OrderSender, Orders)> {
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = channel::bounded(ORDERS_MAX);
    let sender = OrderSender {
        orders: sender,
        bell: bell.clone(),
    };
    let orders = Orders {
        orders: receiver,
        bell,
    };
    Ok((sender, orders))
}

impl OrderSender {
    /// Tells whether too many orders wait.
    pub(crate) fn is_full(&self) -> bool {
        self.orders.is_full()
    }

    /// Asks, and tells whether the lane will hear it: not, once it has ended or where too many wait.
    pub(crate) fn send(&self, order: Order) -> bool {
        let sent = self.orders.try_send(order).is_ok();
        // It fails only where so many rings are unheard that one more says nothing.
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
        sent
    }
}

impl Orders {
    /// Takes the next order, if there is one.
    #[inline]
    pub(crate) fn next(&self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// Tells whether there are any.
    #[inline]
    pub(crate) fn wait(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Stops the ringing. To be called before the orders are taken.
    pub(crate) fn hush(&self) {
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
    }
}

impl AsFd for Orders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl AsRawFd for Orders {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}
