//! `run --series`: what threads and queues do, second by second.

use std::path::Path;

use crate::{
    bench::series::{Row, SeriesWriter},
    cli::{outputs, say, threads::Threads},
    clock::{SECOND_NS, wall_ns},
    error::Error,
    pipeline::Pipeline,
    worker::Handler,
};

/// A series being taken.
pub(super) struct Series {
    writer: SeriesWriter,
    threads: Threads,
    /// When was looked last, by the pipeline's clock.
    looked_ns: Option<u64>,
    is_failing: bool,
}

impl Series {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            writer: SeriesWriter::new(path, outputs::file("--series", path)?)?,
            threads: Threads::default(),
            looked_ns: None,
            is_failing: false,
        })
    }

    /// Writes what the last second showed, if it is over. That it can't be is said once, and stops nothing.
    pub(super) fn look<H: Handler>(&mut self, pipeline: &Pipeline<H>) {
        let now_ns = pipeline.now_ns();
        let elapsed_ns = now_ns - self.looked_ns.unwrap_or(0);
        if self.looked_ns.is_some() && elapsed_ns < SECOND_NS {
            return;
        }
        let threads = self.threads.look(pipeline.placements(), elapsed_ns);
        let is_first = self.looked_ns.replace(now_ns).is_none();
        if is_first {
            return;
        }
        let (workers, batches_max) = (pipeline.by_worker(), pipeline.batches_per_worker());
        let batches = |thread: &str| {
            let worker = thread.strip_prefix("worker-")?.parse::<usize>().ok()?;
            Some(workers.get(worker)?.batches_under_way.min(batches_max))
        };
        let rows: Vec<Row> = threads
            .into_iter()
            .map(|thread| Row {
                time_s: wall_ns() as f64 / SECOND_NS as f64,
                up_s: now_ns as f64 / SECOND_NS as f64,
                batches: batches(&thread.name),
                thread: thread.name,
                cpu_share: thread.cpu_share,
            })
            .collect();
        if let Err(error) = self.writer.write(&rows)
            && !std::mem::replace(&mut self.is_failing, true)
        {
            say(format_args!(
                "warning: {error}; make room or rights for it: the run goes on, its series has a gap"
            ));
        }
    }
}
