//! What a message costs each thread on this host, as measured in some seconds of full load.
//!
//! A publisher, a process of its own, sends as fast as it can to a pipeline of one lane and one worker in this
//! process. A thread's CPU time, the kernel's part included, over the messages of that time is its cost; under
//! full load, since that is where it matters, and where batches are as large as they get.

use std::{path::Path, thread, time::Duration};

use crate::{
    bench::{Shape, process::Process},
    clock::{Deadline, Stopwatch},
    config::Config,
    envelope::Envelope,
    error::{Error, Result},
    host::{
        machine::Machine,
        plan::{Costs, cores_of},
        probe,
        topology::usable_cores,
    },
    lane::Quota,
    pipeline::Pipeline,
    stop::Stop,
    wait::Wait,
    worker::handlers::Count,
};

/// How long the publisher may take to start, and its first message to come.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What comes first is not measured: memory is touched for the first time.
const WARM_UP: Duration = Duration::from_millis(500);
/// How often the publisher is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// CPU times at one moment, and the messages received by then.
struct Mark {
    at_ns: u64,
    messages: u64,
    lane_ns: u64,
    worker_ns: u64,
    publisher_ns: u64,
}

/// Measures for `length` with messages of `shape`; `program` is pinfeed itself, and `tick` is called some fifty
/// times a second. `elsewhere_ns` of the result is what the publisher took, and `busy_at_most` how busy the busiest
/// of the three was, or all cores together.
///
/// # Errors
/// [`Error::Helper`] and what [`Pipeline::start`] gives.
pub fn measure(
    program: &Path,
    shape: &Shape,
    length: Duration,
    mut tick: impl FnMut(),
) -> Result<Costs> {
    let arguments: Vec<String> = [
        "publish",
        "--blast",
        "--until-stdin-ends",
        "--bind",
        "tcp://127.0.0.1:*",
        "--rate",
        "max",
        "--topics",
        &shape.topics.to_string(),
        "--skew",
        &shape.skew.to_string(),
        "--size",
        &shape.payload_bytes.to_string(),
    ]
    .map(str::to_owned)
    .to_vec();
    let cores = usable_cores();
    let mut publisher = Process::start("the publisher", program, &arguments, &cores)?;
    let endpoint = publisher.wait_for_line("publishing on ", START_LIMIT)?;
    let mut config = Config::connect(&endpoint, Envelope::Pinfeed);
    config.engine = Some(shape.engine);
    config.handoff.kind = shape.handoff;
    // What polls takes a whole core, whatever comes.
    config.wait = Wait::Park;
    config.workers.count = 1;
    config.handoff.batch_messages = shape.batch_messages;
    let stop = Stop::default();
    let pipeline = Pipeline::start(&config, Quota::unlimited(), stop, |_| Count::default())?;
    let mut watched = Watched {
        pipeline,
        clock: Stopwatch::start(),
        publisher: publisher.id(),
    };
    watched.wait_for_first()?;
    watched.wait(WARM_UP, &mut tick)?;
    let before = watched.mark()?;
    watched.wait(length, &mut tick)?;
    let after = watched.mark()?;
    let messages = after.messages - before.messages;
    if messages == 0 {
        return Err(failed("nothing that was published came"));
    }
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / messages as f64;
    let lane_ns = each(before.lane_ns, after.lane_ns);
    let worker_ns = each(before.worker_ns, after.worker_ns);
    let elsewhere_ns = each(before.publisher_ns, after.publisher_ns);
    let cores = cores_of(&Machine::read(Path::new("/")));
    let by_all_ns = (lane_ns + worker_ns + elsewhere_ns) / cores;
    let busiest_ns = [lane_ns, worker_ns, elsewhere_ns, by_all_ns]
        .into_iter()
        .fold(0.0, f64::max);
    Ok(Costs {
        lane_ns,
        worker_ns,
        elsewhere_ns,
        busy_at_most: (busiest_ns / each(before.at_ns, after.at_ns)).min(1.0),
    })
}

fn failed(problem: &str) -> Error {
    Error::Helper {
        helper: "measuring costs".to_owned(),
        problem: problem.to_owned(),
    }
}

struct Watched {
    pipeline: Pipeline<Count>,
    clock: Stopwatch,
    publisher: u32,
}

impl Watched {
    fn wait(&mut self, length: Duration, tick: &mut impl FnMut()) -> Result<()> {
        let deadline = Deadline::after(length);
        while !deadline.passed() {
            thread::sleep(deadline.left().min(LOOK_EVERY));
            tick();
            if self.pipeline.is_finished() {
                return Err(failed("the pipeline ended before its time"));
            }
        }
        Ok(())
    }

    /// Waits until messages come.
    fn wait_for_first(&mut self) -> Result<()> {
        let deadline = Deadline::after(START_LIMIT);
        while self.pipeline.look().received == 0 {
            if deadline.passed() {
                return Err(failed("nothing that was published came"));
            }
            self.wait(LOOK_EVERY, &mut || ())?;
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<Mark> {
        let threads = probe::threads();
        // With libzmq a lane is two threads.
        let cpu = |prefixes: &[&str]| -> u64 {
            let named = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
            let these = threads.iter().filter(|thread| named(&thread.name));
            these.map(|thread| thread.cpu_ns).sum()
        };
        let (lane_ns, worker_ns) = (cpu(&["lane-", "io-", "ZMQbg/IO"]), cpu(&["worker-"]));
        let publisher_ns = probe::process_cpu_ns(self.publisher)
            .ok_or_else(|| failed("the publisher ended before its time"))?;
        Ok(Mark {
            at_ns: self.clock.elapsed_ns(),
            messages: self.pipeline.look().received,
            lane_ns,
            worker_ns,
            publisher_ns,
        })
    }
}
