//! Flat out, against baselines that take the same messages in from the same generator.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    bench::{
        Bench, Progress, Spread,
        baseline::{Baseline, Cost},
        generator::{self, Pace},
        process::Process,
        subject::{self, Order},
    },
    clock::Deadline,
    config::Engine,
    error::{Error, Result},
    report::rate,
};

/// The most runs.
const RUNS_MAX: usize = 1_000;
/// Messages that a native receiver is sent, unless that is more bytes than [`BYTES_MAX`].
const MESSAGES: u64 = 20_000_000;
const BYTES_MAX: u64 = 4 << 30;
/// libzmq takes some ten times as long, so its receivers get this part.
const LIBZMQ_PART: u64 = 10;
/// A run that is slower than this many messages a second is given up.
const RATE_MIN: u64 = 20_000;
/// How often the two sides are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long processes may take to start and end.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ThroughputPlan {
    /// Messages that a native receiver is sent in a run; those with libzmq get a tenth.
    pub messages: u64,
    /// How many runs of each contender count.
    pub runs: usize,
}

/// Who takes messages in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The subject.
    Pinfeed(Engine),
    /// What it is compared with.
    Baseline(Baseline),
}

/// What a run flat out showed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ThroughputRun {
    /// From the first message to the last, in seconds.
    pub elapsed_s: f64,
    /// Messages a second.
    pub msgs_per_s: f64,
    /// CPU time of the receiving process a message, in nanoseconds.
    pub cpu_ns_per_msg: f64,
}

/// A contender's runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Throughput {
    /// Who it was.
    #[serde(serialize_with = "super::displayed")]
    pub name: Contender,
    /// Messages in each run.
    pub messages: u64,
    /// The runs, in order.
    pub runs: Vec<ThroughputRun>,
}

/// How the subject stands to a baseline: ratios of medians.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// The baseline.
    #[serde(serialize_with = "super::displayed")]
    pub to: Contender,
    /// Of messages a second.
    pub msgs_per_s: f64,
    /// Of CPU time a message.
    pub cpu_ns_per_msg: f64,
}

/// What a benchmark flat out showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// The subject, and all that it is compared with.
    pub contenders: Vec<Throughput>,
    /// How the first stands to each of the others.
    pub ratios: Vec<Ratio>,
}

impl fmt::Display for Contender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinfeed(engine) => write!(out, "pinfeed, {}", engine.name()),
            Self::Baseline(baseline) => out.write_str(&baseline.title()),
        }
    }
}

impl<'de> Deserialize<'de> for Contender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let engines = [Engine::Native, Engine::Libzmq].map(Self::Pinfeed);
        let mut all = engines.into_iter().chain(Baseline::ALL.map(Self::Baseline));
        let known = all.find(|one| one.to_string() == text);
        known.ok_or_else(|| de::Error::custom(format!("{text:?} is not known to be measured")))
    }
}

impl Contender {
    fn is_libzmq(self) -> bool {
        match self {
            Self::Pinfeed(engine) => engine == Engine::Libzmq,
            Self::Baseline(baseline) => baseline.is_libzmq(),
        }
    }
}

impl ThroughputPlan {
    /// Checks that it can be carried out.
    ///
    /// # Errors
    /// [`Error::Config`], naming the flag.
    pub fn check(&self) -> Result<()> {
        if self.messages < LIBZMQ_PART * 2 {
            let remedy = "give 20 or more: receivers with libzmq get a tenth";
            return Err(Error::config(
                "--messages",
                self.messages,
                "it is too few",
                remedy,
            ));
        }
        if self.runs == 0 || self.runs > RUNS_MAX {
            return Err(Error::config(
                "--runs",
                self.runs,
                "it is out of range",
                "give 1 to 1000",
            ));
        }
        Ok(())
    }
}

impl Bench {
    /// Returns how many messages make a run of about a second.
    #[must_use]
    pub fn messages(&self) -> u64 {
        MESSAGES.min(BYTES_MAX / self.shape.wire_bytes())
    }

    /// Returns the subject and all that it is compared with.
    #[must_use]
    pub fn contenders(&self, plan: &ThroughputPlan) -> Vec<Throughput> {
        let baselines = Baseline::ALL.map(Contender::Baseline);
        let all = [Contender::Pinfeed(self.shape.engine)].into_iter();
        all.chain(baselines)
            .map(|name| Throughput {
                name,
                messages: plan.messages / if name.is_libzmq() { LIBZMQ_PART } else { 1 },
                runs: Vec::new(),
            })
            .collect()
    }

    /// Lets a contender take its messages in once.
    ///
    /// # Errors
    /// [`Error::Helper`] where a process fails or messages are missing, [`Error::Stopped`].
    pub fn throughput(
        &self,
        contender: Contender,
        messages: u64,
        step: &str,
        progress: &mut dyn Progress,
    ) -> Result<ThroughputRun> {
        let limit = START_LIMIT + Duration::from_secs(messages / RATE_MIN);
        let pace = Pace {
            rate: None,
            messages,
            limit: None,
            log: None,
        };
        let (mut generator, endpoint) = generator::start(self, &pace)?;
        let mut receiver = match contender {
            Contender::Pinfeed(_) => {
                let order = Order {
                    endpoint: &endpoint,
                    messages,
                    warm_up: Duration::ZERO,
                    limit: 2 * limit,
                    log: None,
                    series: None,
                };
                subject::start(self, &order)?
            }
            Contender::Baseline(baseline) => self.start_baseline(baseline, &endpoint, messages)?,
        };
        progress.begin(step, Duration::ZERO, generator.id(), receiver.id());
        let deadline = Deadline::after(limit);
        let mut is_done = false;
        while !is_done && !deadline.passed() {
            // Without a generator the receiver would wait for one.
            generator.check()?;
            progress.left(step, Duration::ZERO);
            is_done = receiver.wait(LOOK_EVERY, &self.stop)?;
        }
        let incomplete = |received: u64| {
            Err(Error::Helper {
                helper: contender.to_string(),
                problem: format!("{received} of {messages} messages came"),
            })
        };
        if !is_done && contender != Contender::Pinfeed(self.shape.engine) {
            return incomplete(0);
        }
        match contender {
            Contender::Pinfeed(_) => {
                let summary: subject::Summary = receiver.conclude(&self.stop)?;
                if summary.received != messages || !summary.balanced {
                    return incomplete(summary.received);
                }
                Ok(ThroughputRun {
                    elapsed_s: summary.elapsed_s,
                    msgs_per_s: summary.msgs_per_s,
                    cpu_ns_per_msg: summary.cpu_ns_per_msg,
                })
            }
            Contender::Baseline(_) => {
                let cost: Cost = receiver.conclude(&self.stop)?;
                let elapsed_s = cost.elapsed_ns as f64 / 1e9;
                Ok(ThroughputRun {
                    elapsed_s,
                    msgs_per_s: messages as f64 / elapsed_s,
                    cpu_ns_per_msg: cost.cpu_ns as f64 / messages as f64,
                })
            }
        }
    }

    fn start_baseline(&self, baseline: Baseline, endpoint: &str, messages: u64) -> Result<Process> {
        let arguments = [
            "bench",
            "baseline",
            &baseline.to_string(),
            "--connect",
            endpoint,
            "--messages",
            &messages.to_string(),
            "--wire-bytes",
            &self.shape.wire_bytes().to_string(),
        ]
        .map(str::to_owned);
        Process::start(
            "the baseline",
            &self.program,
            &arguments,
            &self.cores.subject,
        )
    }
}

impl Throughput {
    /// Returns messages a second, over the runs.
    #[must_use]
    pub fn msgs_per_s(&self) -> Spread {
        Spread::of(self.runs.iter().map(|run| run.msgs_per_s))
    }

    /// Returns the CPU time a message in nanoseconds, over the runs.
    #[must_use]
    pub fn cpu_ns_per_msg(&self) -> Spread {
        Spread::of(self.runs.iter().map(|run| run.cpu_ns_per_msg))
    }
}

/// Returns how the first contender stands to each of the others.
#[must_use]
pub fn ratios(contenders: &[Throughput]) -> Vec<Ratio> {
    let Some((subject, baselines)) = contenders.split_first() else {
        return Vec::new();
    };
    let to = |baseline: &Throughput| Ratio {
        to: baseline.name,
        msgs_per_s: subject.msgs_per_s().median / baseline.msgs_per_s().median,
        cpu_ns_per_msg: subject.cpu_ns_per_msg().median / baseline.cpu_ns_per_msg().median,
    };
    baselines.iter().map(to).collect()
}

/// All contenders as a table for people.
#[must_use]
pub fn throughput_table(contenders: &[Throughput]) -> impl fmt::Display + use<'_> {
    Table(contenders)
}

struct Table<'a>(&'a [Throughput]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:<36}{:>10}{:>9}{:>19}{:>13}{:>19}",
            "median", "messages", "msg/s", "lowest - highest", "CPU ns/msg", "lowest - highest"
        )?;
        for one in self.0 {
            let (rates, cpu_ns) = (one.msgs_per_s(), one.cpu_ns_per_msg());
            writeln!(
                out,
                "{:<36}{:>10}{:>9}{:>19}{:>13.1}{:>19}",
                one.name.to_string(),
                rate(one.messages as f64),
                rate(rates.median),
                format!("{} - {}", rate(rates.lowest), rate(rates.highest)),
                cpu_ns.median,
                format!("{:.1} - {:.1}", cpu_ns.lowest, cpu_ns.highest),
            )?;
        }
        let subject = self.0.first().map(|one| one.name.to_string());
        writeln!(out, "{} to", subject.unwrap_or_default())?;
        for ratio in ratios(self.0) {
            writeln!(
                out,
                "  {:<44}{:>9.2}{:>32.2}",
                ratio.to.to_string(),
                ratio.msgs_per_s,
                ratio.cpu_ns_per_msg
            )?;
        }
        Ok(())
    }
}

/// The runs as CSV, a line a run.
#[must_use]
pub fn throughput_csv(contenders: &[Throughput]) -> String {
    let mut text = "run,name,messages,elapsed_s,msgs_per_s,cpu_ns_per_msg\n".to_owned();
    for contender in contenders {
        for (number, run) in (1..).zip(&contender.runs) {
            text += &format!(
                "{number},\"{}\",{},{},{},{}\n",
                contender.name,
                contender.messages,
                run.elapsed_s,
                run.msgs_per_s,
                run.cpu_ns_per_msg
            );
        }
    }
    text
}
