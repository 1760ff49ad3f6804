//! Flat out, against baselines that take the same messages in from the same generator.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    bench::{
        Bench, HasVerdict, Progress, Spread, Validity, Verdict,
        baseline::{Baseline, Cost},
        generator, paired_ratios,
        process::Process,
        spread::{figure, known},
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ThroughputRun {
    /// Whether it says anything.
    pub verdict: Verdict,
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
    /// The runs, in order. Figures over them leave out those that are invalid.
    pub runs: Vec<ThroughputRun>,
}

/// How the subject stands to a baseline: medians of the ratios of each round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// The baseline.
    #[serde(serialize_with = "super::displayed")]
    pub to: Contender,
    /// Of messages a second.
    #[serde(deserialize_with = "figure")]
    pub msgs_per_s: f64,
    /// Of CPU time a message.
    #[serde(deserialize_with = "figure")]
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

    /// Returns how many messages make a run of the subject of about a second.
    #[must_use]
    pub fn messages_of_subject(&self) -> u64 {
        let subject = Contender::Pinfeed(self.shape.engine);
        self.messages() / if subject.is_libzmq() { LIBZMQ_PART } else { 1 }
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
    /// [`Error::Helper`] where a process fails without a result or messages are missing, [`Error::Stopped`].
    pub fn throughput(
        &self,
        contender: Contender,
        messages: u64,
        step: &str,
        progress: &mut dyn Progress,
    ) -> Result<ThroughputRun> {
        self.shape.check()?;
        let limit = START_LIMIT + Duration::from_secs(messages / RATE_MIN);
        let (mut generators, endpoints) = generator::start_all(self, messages)?;
        let mut receiver = match contender {
            Contender::Pinfeed(_) => {
                let order = Order {
                    endpoints: &endpoints,
                    messages,
                    warm_up: Duration::ZERO,
                    limit: 2 * limit,
                    log: None,
                    series: None,
                };
                subject::start(self, &order)?
            }
            Contender::Baseline(baseline) => self.start_baseline(baseline, &endpoints, messages)?,
        };
        let ids: Vec<u32> = generators.iter().map(Process::id).collect();
        progress.begin(step, Duration::ZERO, &ids, receiver.id());
        let deadline = Deadline::after(limit);
        let mut is_done = false;
        while !is_done && !deadline.passed() {
            // Without a generator the receiver would wait for one.
            generators.iter_mut().try_for_each(Process::check)?;
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
        let (mut run, problem) = match contender {
            Contender::Pinfeed(_) => {
                let summary: subject::Summary = receiver.conclude(&self.stop)?;
                if summary.received != messages {
                    return incomplete(summary.received);
                }
                let run = ThroughputRun {
                    verdict: Verdict::Ok,
                    elapsed_s: summary.elapsed_s,
                    msgs_per_s: summary.msgs_per_s,
                    cpu_ns_per_msg: summary.cpu_ns_per_msg,
                };
                (run, summary.problem())
            }
            Contender::Baseline(_) => {
                let cost: Cost = receiver.conclude(&self.stop)?;
                let elapsed_s = cost.elapsed_ns as f64 / 1e9;
                let run = ThroughputRun {
                    verdict: Verdict::Ok,
                    elapsed_s,
                    msgs_per_s: messages as f64 / elapsed_s,
                    cpu_ns_per_msg: cost.cpu_ns as f64 / messages as f64,
                };
                (run, None)
            }
        };
        // Generators go after the last subscriber.
        let mut problems: Vec<String> = problem.into_iter().collect();
        problems.extend(receiver.end(&self.stop)?);
        for generator in &mut generators {
            problems.extend(generator.end(&self.stop)?);
        }
        if !problems.is_empty() {
            run.verdict = Verdict::Failed(problems.join("; "));
        }
        Ok(run)
    }

    fn start_baseline(
        &self,
        baseline: Baseline,
        endpoints: &[String],
        messages: u64,
    ) -> Result<Process> {
        let mut arguments = [
            "bench",
            "baseline",
            &baseline.to_string(),
            "--messages",
            &messages.to_string(),
            "--wire-bytes",
            &self.shape.wire_bytes().to_string(),
            "--frames",
            &self.shape.frames.to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        for endpoint in endpoints {
            arguments.extend(["--connect".to_owned(), endpoint.clone()]);
        }
        Process::start(
            "the baseline",
            &self.program,
            &arguments,
            &self.cores.subject,
        )
    }
}

impl HasVerdict for ThroughputRun {
    fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

impl Throughput {
    /// Returns messages a second, over the runs that are valid.
    #[must_use]
    pub fn msgs_per_s(&self) -> Spread {
        Spread::of(self.valid().map(|run| run.msgs_per_s))
    }

    /// Returns the CPU time a message in nanoseconds, over the runs that are valid.
    #[must_use]
    pub fn cpu_ns_per_msg(&self) -> Spread {
        Spread::of(self.valid().map(|run| run.cpu_ns_per_msg))
    }

    /// Returns how many of its runs are valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        Validity::of(self.runs.iter().map(|run| &run.verdict))
    }

    fn valid(&self) -> impl Iterator<Item = &ThroughputRun> {
        self.runs.iter().filter(|run| run.verdict.is_ok())
    }
}

/// The figures of one line of a table: messages a second and CPU time a message, each with its spread.
pub(super) fn write_figures(
    out: &mut fmt::Formatter<'_>,
    rates: &Spread,
    cpu_ns: &Spread,
) -> fmt::Result {
    let ns = |ns: f64| format!("{ns:.1}");
    let range = |spread: &Spread, show: fn(f64) -> String| {
        known(spread.lowest, |lowest| {
            format!("{} - {}", show(lowest), show(spread.highest))
        })
    };
    write!(
        out,
        "{:>9}{:>19}{:>13}{:>19}",
        known(rates.median, rate),
        range(rates, rate),
        known(cpu_ns.median, ns),
        range(cpu_ns, ns),
    )
}

/// Returns how the first contender stands to each of the others.
#[must_use]
pub fn ratios(contenders: &[Throughput]) -> Vec<Ratio> {
    let Some((subject, baselines)) = contenders.split_first() else {
        return Vec::new();
    };
    let to = |baseline: &Throughput| {
        let median =
            |figure| Spread::of(paired_ratios(&subject.runs, &baseline.runs, figure)).median;
        Ratio {
            to: baseline.name,
            msgs_per_s: median(|run| run.msgs_per_s),
            cpu_ns_per_msg: median(|run| run.cpu_ns_per_msg),
        }
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
            let name = one.name.to_string();
            write!(out, "{name:<36}{:>10}", rate(one.messages as f64))?;
            write_figures(out, &one.msgs_per_s(), &one.cpu_ns_per_msg())?;
            match one.validity() {
                Validity { runs, valid } if valid == runs => writeln!(out)?,
                some_invalid => writeln!(out, "  {some_invalid}")?,
            }
        }
        let subject = self.0.first().map(|one| one.name.to_string());
        writeln!(
            out,
            "{} to, median of the rounds",
            subject.unwrap_or_default()
        )?;
        for ratio in ratios(self.0) {
            writeln!(
                out,
                "  {:<44}{:>9}{:>32}",
                ratio.to.to_string(),
                known(ratio.msgs_per_s, |ratio| format!("{ratio:.2}")),
                known(ratio.cpu_ns_per_msg, |ratio| format!("{ratio:.2}")),
            )?;
        }
        Ok(())
    }
}

/// The runs as CSV, a line a run.
#[must_use]
pub fn throughput_csv(contenders: &[Throughput]) -> String {
    let mut text = "run,name,messages,verdict,elapsed_s,msgs_per_s,cpu_ns_per_msg\n".to_owned();
    for contender in contenders {
        for (number, run) in (1..).zip(&contender.runs) {
            text += &format!(
                "{number},\"{}\",{},{},{},{},{}\n",
                contender.name,
                contender.messages,
                run.verdict.word(),
                run.elapsed_s,
                run.msgs_per_s,
                run.cpu_ns_per_msg
            );
        }
    }
    text
}
