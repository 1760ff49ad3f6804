//! The handoff of the ZeroMQ Guide's black box: inproc PUSH/PULL, one PULL a worker, one PUSH for
//! each lane and worker, a batch at a time.
//!
//! A batch itself never passes through libzmq: it is put in a slot, and the PUSH carries the slot's
//! number, so that its buffers are neither copied nor reallocated and can circle. The slot's lock is
//! never contended (libzmq hands the number over only once the batch is in place), and costs some
//! 20 ns a batch. One message at a time, a handover costs several hundred nanoseconds, nearly all of
//! it libzmq's queue and wake-up; a batch shares that among its messages (`cargo bench --bench
//! inproc`).
//!
//! Bounded by the number of batches that an [`Outlet`] starts with: an empty store of spares is what
//! a full handoff looks like. The high-water marks of the sockets are off, since they can't be met.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use zmq::{DONTWAIT, SocketType};

use crate::{
    error::{Error, Result},
    handoff::{Batch, HandoffLimits, Received},
    libzmq::{Context, Socket},
    wait::{IDLE_AFTER, Wait},
};

/// What the PUSH carries in place of a slot's number when its lane has ended.
const END: u32 = u32::MAX;

type Slots = Arc<[Mutex<Option<Box<Batch>>>]>;

/// A lane's end of its handoff to one worker.
pub struct Outlet {
    worker: usize,
    /// There as long as the worker's end is.
    life: Weak<()>,
    push: Socket,
    slots: Slots,
    returned: Receiver<Box<Batch>>,
    /// Batches that have come back; the last one is filled first, so that only as much memory is touched as is under way.
    #[expect(clippy::vec_box, reason = "they travel in their boxes")]
    spares: Vec<Box<Batch>>,
    limits: HandoffLimits,
}

/// A worker's end of the handoffs from all lanes.
pub struct Inlet {
    pull: Socket,
    wait: Wait,
    /// What tells outlets that it is there.
    _life: Arc<()>,
    slots: Slots,
    /// Where batches go back to, by source.
    homes: Vec<Sender<Box<Batch>>>,
    /// Lanes that may still send.
    open: usize,
}

/// Makes the handoffs to one worker: as many outlets as `lanes` says, and the inlet.
///
/// # Errors
/// [`Error::Zmq`] where libzmq has no more sockets to give.
pub fn connect(
    context: &Context,
    worker: usize,
    lanes: usize,
    limits: HandoffLimits,
    wait: Wait,
) -> Result<(Vec<Outlet>, Inlet)> {
    let endpoint = format!("inproc://worker-{worker}");
    let doing = format!("opening the handoff {endpoint}");
    let pull = context.socket(SocketType::PULL)?;
    pull.set_rcvhwm(0).map_err(Error::zmq(&doing))?;
    pull.set_rcvtimeo(IDLE_AFTER.as_millis() as i32)
        .map_err(Error::zmq(&doing))?;
    pull.bind(&endpoint).map_err(Error::zmq(&doing))?;
    let slots: Slots = (0..lanes * limits.batches)
        .map(|_| Mutex::new(None))
        .collect();
    let life = Arc::new(());
    let mut outlets = Vec::with_capacity(lanes);
    let mut homes = Vec::with_capacity(lanes);
    for lane in 0..lanes {
        let push = context.socket(SocketType::PUSH)?;
        push.set_sndhwm(0).map_err(Error::zmq(&doing))?;
        push.connect(&endpoint).map_err(Error::zmq(&doing))?;
        let (home, returned) = channel::bounded(limits.batches);
        let slots_of_lane = (0..limits.batches).map(|index| lane * limits.batches + index);
        let spares = slots_of_lane.map(|slot| Box::new(Batch::new(limits.batch, lane, slot)));
        homes.push(home);
        outlets.push(Outlet {
            worker,
            life: Arc::downgrade(&life),
            push,
            slots: slots.clone(),
            returned,
            spares: spares.collect(),
            limits,
        });
    }
    let inlet = Inlet {
        pull,
        wait,
        _life: life,
        slots,
        homes,
        open: lanes,
    };
    Ok((outlets, inlet))
}

impl Outlet {
    /// Tells whether the worker can have nothing waiting: all batches are spare but for the one being
    /// filled and one that it may be at work on. PUSH itself does not say.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.at_home() + 2 >= self.limits.batches
    }

    /// Tells whether [many](HandoffLimits::is_behind) batches are under way, where one is being filled.
    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        let under_way = self.limits.batches.saturating_sub(self.at_home() + 1);
        self.limits.is_behind(under_way) && !self.is_empty()
    }

    #[inline]
    fn at_home(&self) -> usize {
        self.spares.len() + self.returned.len()
    }

    /// Takes an empty batch, or `None` when all are filled or under way: the handoff is full.
    #[inline]
    pub fn spare(&mut self) -> Option<Box<Batch>> {
        self.spares.extend(self.returned.try_iter());
        self.spares.pop()
    }

    /// As [`spare`](Self::spare), but waits up to `limit` for one to come back.
    ///
    /// # Errors
    /// [`Error::WorkerGone`] where none will.
    pub fn wait_for_spare(&mut self, limit: Duration) -> Result<Option<Box<Batch>>> {
        if let Some(batch) = self.spare() {
            return Ok(Some(batch));
        }
        match self.returned.recv_timeout(limit) {
            Ok(batch) => Ok(Some(batch)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.worker_gone()),
        }
    }

    /// Finds out whether the worker has ended before its time.
    ///
    /// # Errors
    /// [`Error::WorkerGone`].
    pub(super) fn check_worker(&self) -> Result<()> {
        if self.life.strong_count() > 0 {
            return Ok(());
        }
        Err(self.worker_gone())
    }

    fn worker_gone(&self) -> Error {
        Error::WorkerGone {
            worker: self.worker,
        }
    }

    /// Hands a batch over. Never waits: the batch was a spare of this outlet, so there is room.
    ///
    /// # Errors
    /// [`Error::Zmq`], which a live context gives no cause for.
    pub fn send(&self, batch: Box<Batch>) -> Result<()> {
        let slot = batch.slot;
        *self.slots[slot]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(batch);
        self.push_number(slot as u32)
    }

    fn push_number(&self, number: u32) -> Result<()> {
        self.push
            .send_small(&number.to_ne_bytes())
            .map_err(Error::zmq("handing a batch over"))
    }
}

impl Drop for Outlet {
    /// Tells the worker that no more batches come this way.
    fn drop(&mut self) {
        // It fails only with the context, and then there is no worker to tell.
        let _ = self.push_number(END);
    }
}

impl Inlet {
    /// Waits for the next batch.
    ///
    /// # Errors
    /// [`Error::Zmq`], which a live context gives no cause for.
    pub fn receive(&mut self) -> Result<Received> {
        while self.open > 0 {
            let pull = &self.pull;
            let number = self
                .wait
                .until(|may_sleep| pull_number(pull, if may_sleep { 0 } else { DONTWAIT }));
            match number {
                None => return Ok(Received::Idle),
                Some(Ok(END)) => self.open -= 1,
                Some(Ok(slot)) => {
                    let batch = self.slots[slot as usize]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take()
                        .expect("a slot is filled before its number is sent");
                    return Ok(Received::Batch(batch));
                }
                Some(Err(source)) => {
                    return Err(Error::zmq("waiting for a batch")(source));
                }
            }
        }
        Ok(Received::Ended)
    }

    /// Returns a batch to the lane it came from, which may then fill it again.
    pub fn give_back(&self, mut batch: Box<Batch>) {
        batch.clear();
        // A lane that has ended takes none back, and then this drops it.
        let _ = self.homes[batch.source].try_send(batch);
    }
}

/// Takes the next number, or `None` where there is none yet or a signal came instead.
fn pull_number(pull: &Socket, flags: i32) -> Option<std::result::Result<u32, zmq::Error>> {
    let mut number = [0; size_of::<u32>()];
    match pull.recv_into(&mut number, flags) {
        Ok(_) => Some(Ok(u32::from_ne_bytes(number))),
        Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => None,
        Err(other) => Some(Err(other)),
    }
}
