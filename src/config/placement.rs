//! Which core each thread is to run on.

use crate::{
    config::{Config, CoreChoice, Engine, PinPolicy},
    host::{
        machine::Machine,
        plan::{Placed, Thread, place},
        topology,
    },
    wait::Wait,
};

/// The cores of a pipeline's threads, where they are to have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// By lane: the core of its I/O thread and of its receive thread.
    pub lanes: Vec<(Option<usize>, Option<usize>)>,
    /// By worker.
    pub workers: Vec<Option<usize>>,
    /// Whether a pin that does not take effect is an error.
    pub strict: bool,
}

impl Config {
    /// Returns the number of threads that want a core: one a lane, with libzmq two, and one a worker.
    #[must_use]
    pub fn threads(&self) -> usize {
        let a_lane = match self.engine() {
            Engine::Native => 1,
            Engine::Libzmq => 2,
        };
        a_lane * self.lanes.len() + self.workers.count
    }

    /// Hands out `cores` in order: to each lane, with libzmq to its I/O thread first, then to workers.
    /// Threads beyond the list stay without.
    pub fn hand_out(&mut self, cores: &[usize]) {
        let mut cores = cores.iter().copied();
        let engine = self.engine();
        for lane in &mut self.lanes {
            if engine == Engine::Libzmq {
                lane.io_core = cores.next();
            }
            lane.core = cores.next();
        }
        self.workers.cores = cores.collect();
    }

    /// Decides the core of each thread.
    ///
    /// Where the configuration names no core at all and this process may use one for each thread,
    /// they are [handed out](Self::hand_out) in order, the lowest left free if there is one to
    /// spare. Where it has fewer, each lane gets one core, from the highest down, with libzmq for its
    /// two threads, and workers run anywhere; but not where threads wait by polling, since others could
    /// not run meanwhile.
    ///
    /// On two cores libzmq's receive thread alone, without workers, took in 8.1 million messages a
    /// second beside its I/O thread, and 4.6 million on the other core: the two share reference
    /// counts for every message, which is dear when their caches don't share a level.
    #[must_use]
    pub fn cores(&self) -> Cores {
        let plans = self.cores == Some(CoreChoice::Auto);
        let machine = plans.then(|| Machine::read("/".as_ref()));
        self.decide(&topology::usable_cores(), machine.as_ref())
    }

    /// As [`cores`](Self::cores), on a machine that need not be this one.
    #[must_use]
    pub fn cores_on(&self, machine: &Machine) -> Cores {
        self.decide(&machine.usable_cores(), Some(machine))
    }

    /// Has the planner choose a core for each lane, with libzmq for both of its threads, and each worker.
    fn place_on(&mut self, machine: &Machine) {
        let lanes = self.lanes.iter().map(|lane| Thread::Lane {
            name: lane.name.clone(),
            nic: lane.nic.clone(),
        });
        let workers = (0..self.workers.count).map(|worker| Thread::Worker {
            name: format!("worker-{worker}"),
        });
        let threads: Vec<Thread> = lanes.chain(workers).collect();
        let placed = place(machine, &threads);
        let (lanes, workers) = placed.split_at(self.lanes.len());
        let engine = self.engine();
        for (lane, placed) in self.lanes.iter_mut().zip(lanes) {
            lane.core = placed.core();
            lane.io_core = lane.core.filter(|_| engine == Engine::Libzmq);
        }
        // Those without come last.
        self.workers.cores = workers.iter().filter_map(Placed::core).collect();
    }

    /// The machine is that of `cores = "auto"`.
    fn decide(&self, usable: &[usize], machine: Option<&Machine>) -> Cores {
        let enough = usable.len() >= self.threads();
        let named = !self.workers.cores.is_empty()
            || self
                .lanes
                .iter()
                .any(|lane| lane.core.is_some() || lane.io_core.is_some());
        let engine = self.engine();
        let mut config = self.clone();
        if let (Some(CoreChoice::Auto), Some(machine)) = (self.cores, machine) {
            config.place_on(machine);
        } else if !named && enough {
            let spare = usize::from(usable.len() > self.threads());
            config.hand_out(&usable[spare..spare + self.threads()]);
        } else if !named && usable.len() >= self.lanes.len() && self.wait == Wait::Park {
            for (lane, &core) in config.lanes.iter_mut().zip(usable.iter().rev()) {
                lane.core = Some(core);
                lane.io_core = lane.core.filter(|_| engine == Engine::Libzmq);
            }
        }
        let workers = config.workers.cores.iter().copied().map(Some);
        Cores {
            lanes: config
                .lanes
                .iter()
                .map(|lane| (lane.io_core, lane.core))
                .collect(),
            workers: workers
                .chain(std::iter::repeat(None))
                .take(config.workers.count)
                .collect(),
            strict: match self.pin {
                Some(policy) => policy == PinPolicy::Strict,
                None => enough,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Lane;

    fn config(lanes: usize, workers: usize) -> Config {
        let mut config = Config {
            engine: Some(Engine::Libzmq),
            ..Config::default()
        };
        config.workers.count = workers;
        config.lanes = (0..lanes)
            .map(|index| Lane {
                name: format!("lane-{index}"),
                core: None,
                io_core: None,
                nic: None,
                source: None,
            })
            .collect();
        config
    }

    #[test]
    fn enough_cores_are_handed_out_and_the_first_is_left_free() {
        let cores = config(1, 2).decide(&[0, 2, 3, 4, 6], None);
        assert_eq!(cores.lanes, [(Some(2), Some(3))]);
        assert_eq!(cores.workers, [Some(4), Some(6)]);
        assert!(cores.strict);
        assert_eq!(
            config(1, 2).decide(&[0, 1, 2, 3], None).lanes,
            [(Some(0), Some(1))]
        );
    }

    #[test]
    fn with_too_few_cores_a_lane_gets_one_and_workers_none() {
        let cores = config(1, 2).decide(&[0, 1], None);
        assert_eq!(cores.lanes, [(Some(1), Some(1))]);
        assert_eq!(cores.workers, [None, None]);
        assert!(!cores.strict);
        let cores = config(2, 2).decide(&[0], None);
        assert_eq!(
            (cores.lanes, cores.workers),
            (vec![(None, None); 2], vec![None, None])
        );
        assert!(!cores.strict);
    }

    #[test]
    fn a_native_lane_is_one_thread() {
        let mut native = config(1, 2);
        native.engine = Some(Engine::Native);
        let cores = native.decide(&[0, 1, 2, 3], None);
        assert_eq!(cores.lanes, [(None, Some(1))]);
        assert_eq!(cores.workers, [Some(2), Some(3)]);
        let cores = native.decide(&[0, 1], None);
        assert_eq!(cores.lanes, [(None, Some(1))]);
        assert_eq!(cores.workers, [None, None]);
    }

    #[test]
    fn the_planner_places_by_the_machine() {
        let mut machine = Machine::read("/nonexistent".as_ref());
        let (here, usable) = (Machine::read("/".as_ref()), topology::usable_cores());
        machine.cores = here.cores;
        let mut config = config(1, 2);
        config.place_on(&machine);
        assert!(
            config.lanes[0]
                .core
                .is_some_and(|core| usable.contains(&core))
        );
        assert_eq!(config.lanes[0].core, config.lanes[0].io_core);
        assert!(
            config
                .workers
                .cores
                .iter()
                .all(|core| usable.contains(core))
        );
    }

    #[test]
    fn named_cores_are_kept_and_the_rest_stay_free() {
        let mut named = config(1, 2);
        named.hand_out(&[5, 6, 7]);
        let cores = named.decide(&[0, 1, 2, 3, 4, 5, 6, 7], None);
        assert_eq!(cores.lanes, [(Some(5), Some(6))]);
        assert_eq!(cores.workers, [Some(7), None]);
    }
}
