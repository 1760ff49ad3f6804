//! Goal: each thread really is where it was to be: the I/O threads of libzmq, lanes and workers, by
//! the kernel's own account.

mod support;

use std::fs;

use pinfeed::{
    config::{Config, Engine, Lane, Line, PinPolicy},
    envelope::Envelope,
    host::topology::usable_cores,
    lane::Quota,
    pipeline::Pipeline,
    stop::Stop,
    worker::handlers::Null,
};
use support::{ENGINES, Pinfeed, finish, publisher, wait_until};

/// Returns the cores that a thread of this process may use, and the one it last ran on, as /proc
/// shows them, for each thread whose name ends like this.
fn seen_by_kernel(name: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if !read("comm").trim_end().ends_with(name) {
            continue;
        }
        let allowed = read("status")
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:\t").map(str::to_owned))
            .unwrap_or_default();
        let stat = read("stat");
        let after_name = stat.rsplit_once(')').unwrap().1;
        // Field 39 of the whole line; the third comes first after the name.
        let last = after_name
            .split_whitespace()
            .nth(39 - 3)
            .unwrap()
            .parse()
            .unwrap();
        found.push((allowed, last));
    }
    found
}

#[test]
fn threads_run_where_they_were_put() {
    for engine in ENGINES {
        run_where_they_were_put(engine);
    }
}

fn run_where_they_were_put(engine: Engine) {
    let cores = usable_cores();
    let &[low, .., high] = &cores[..] else {
        support::skip("this machine has only one core");
        return;
    };
    let (_first, first_endpoint) = publisher(&["--rate", "10000"]);
    let (_second, second_endpoint) = publisher(&["--rate", "10000"]);
    let mut config = Config::connect(&first_endpoint, Envelope::Pinfeed);
    config.engine = Some(engine);
    config.pin = Some(PinPolicy::Strict);
    config.workers.count = 1;
    config.lanes[0].name = "low".to_owned();
    config.feeds[0].lines[0].lane = "low".to_owned();
    config.lanes.push(Lane::named("high"));
    let mut line = Line::on("high");
    line.connect.push(second_endpoint);
    config.feeds[0].lines.push(line);
    for (lane, core) in config.lanes.iter_mut().zip([low, high]) {
        lane.core = Some(core);
        lane.io_core = lane.core.filter(|_| engine == Engine::Libzmq);
    }
    let stop = Stop::default();
    let mut pipeline =
        Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Null).unwrap();
    let placed: Vec<_> = pipeline
        .placements()
        .iter()
        .map(|placement| {
            (
                placement.name.clone(),
                placement.core_wanted,
                placement.core_got,
            )
        })
        .collect();
    // As pinfeed names them, and as the kernel does.
    let mut tied = vec![
        ("lane-low", "lane-low", low),
        ("lane-high", "lane-high", high),
    ];
    if engine == Engine::Libzmq {
        tied.extend([
            ("io-low", "/ZMQbg/IO/0", low),
            ("io-high", "/ZMQbg/IO/1", high),
        ]);
    }
    for &(name, _, core) in &tied {
        let expected = (name.to_owned(), Some(core), Some(core));
        assert!(placed.contains(&expected), "{placed:?}");
    }
    wait_until("messages flow", || pipeline.look().delivered > 1_000);
    // A thread that sleeps moves when it next wakes, so this waits for it to have worked there.
    for (_, name, core) in tied {
        let expected = [(core.to_string(), core)];
        wait_until("the thread is on its core", || {
            seen_by_kernel(name) == expected
        });
    }
    stop.request();
    let outcome = finish(pipeline);
    assert!(outcome.failure.is_none() && outcome.totals.balanced());
}

#[test]
fn strict_is_about_cores_that_were_given() {
    let cores = usable_cores();
    let low = cores[0].to_string();
    let limits = ["--workers", "2", "--for", "10ms", "--json"];
    let strict = ["run", "--pin", "strict", "--cores", &low, "--bind"];
    let bind = ["tcp://127.0.0.1:*"];
    let mut run = Pinfeed::start(&[&strict[..], &bind, &limits].concat());
    let summary = run.json(0);
    let placed = |name: &str| {
        let threads = summary["threads"].as_array().expect("a list").iter();
        let mut found = threads.filter(|thread| thread["name"] == name);
        let thread = found.next().expect("it is there");
        (thread["core_wanted"].as_u64(), thread["core_got"].as_u64())
    };
    let core = Some(cores[0] as u64);
    assert_eq!(placed("lane-0"), (core, core));
    for worker in ["worker-0", "worker-1"] {
        // Where there is only one core, it is tied to that anyway.
        let anywhere = if cores.len() == 1 { core } else { None };
        assert_eq!(placed(worker), (None, anywhere), "{summary}");
    }
}

#[test]
fn best_effort_goes_without_a_core_that_is_not_there() {
    let absent = (usable_cores().last().unwrap() + 1).to_string();
    for engine in ENGINES {
        let cores = ["run", "--pin", "best-effort", "--cores", &absent];
        let limits = ["--for", "10ms", "--json", "--engine", engine.name()];
        let bind = ["--bind", "tcp://127.0.0.1:*"];
        let mut run = Pinfeed::start(&[&cores[..], &bind, &limits].concat());
        let summary = run.json(0);
        // With libzmq the first core is the I/O thread's.
        let name = match engine {
            Engine::Native => "lane-0",
            Engine::Libzmq => "io-0",
        };
        let threads = summary["threads"].as_array().expect("a list");
        let thread = threads.iter().find(|thread| thread["name"] == name);
        let wanted = &thread.expect("it is there")["core_wanted"];
        assert_eq!(wanted.to_string(), absent, "{summary}");
        let said = format!("warning: not on the core asked for: {name}");
        assert!(run.said.contains(&said), "{}", run.said);
        assert!(run.said.contains(&format!("{name} NOT on core {absent}")));
        assert_eq!(summary["anomalies"], serde_json::json!([]), "that is known");
    }
}

#[test]
fn strict_leaves_threads_without_a_core_where_there_are_too_few() {
    let cores = usable_cores();
    let mut config = Config::bind("tcp://127.0.0.1:*", Envelope::Raw);
    config.pin = Some(PinPolicy::Strict);
    config.workers.count = cores.len() + 1;
    let stop = Stop::default();
    let pipeline = Pipeline::start(&config, Quota::unlimited(), stop.clone(), |_| Null).unwrap();
    let workers = pipeline.placements().iter();
    let workers: Vec<_> = workers
        .filter(|one| one.name.starts_with("worker-"))
        .collect();
    assert_eq!(workers.len(), cores.len() + 1);
    // Where there is only one core, they are tied to that anyway.
    let anywhere = (cores.len() == 1).then(|| cores[0]);
    for worker in workers {
        assert_eq!((worker.core_wanted, worker.core_got), (None, anywhere));
    }
    stop.request();
    assert!(finish(pipeline).failure.is_none());
}
