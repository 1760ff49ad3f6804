//! Whether `pinfeed plan` is right: the rate that it says this host breaks at, beside what a flood then takes. Both are
//! of the command itself, by the ways that users have.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// The word that asks for this.
pub const WORD: &str = "prediction";

/// Bytes of the payloads that it is looked at with.
const SIZES: [usize; 2] = [28, 1_000];
/// Topics, as many as `plan` measures with.
const TOPICS: &str = "1000";
/// A prediction is right within this part of what was measured.
const RIGHT_WITHIN: f64 = 0.3;

/// How long to measure costs, and how long to flood.
pub struct Length {
    pub plan: &'static str,
    pub flood: &'static str,
}

impl Length {
    pub const MEASURED: Self = Self {
        plan: "3s",
        flood: "5s",
    };
    /// Only to see that it works.
    pub const SHORT: Self = Self {
        plan: "300ms",
        flood: "300ms",
    };
}

/// Rates in messages a second.
pub struct Prediction {
    payload_bytes: usize,
    predicted: f64,
    taken: f64,
}

fn pinfeed() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pinfeed"))
}

/// Runs the command to its end, and returns what it writes as JSON.
fn json(arguments: &[&str]) -> Value {
    let output = pinfeed().args(arguments).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pinfeed {arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// A publisher that sends as fast as it can; ended when dropped.
struct Flood {
    child: Child,
    endpoint: String,
}

impl Flood {
    fn start(size: &str) -> Self {
        let mut child = pinfeed()
            .args(["publish", "--blast", "--rate", "max", "--skew", "0"])
            .args(["--topics", TOPICS, "--size", size])
            .args(["--bind", "tcp://127.0.0.1:*", "--until-stdin-ends"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the publisher starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let endpoint = lines.find_map(|line| {
            let line = line.expect("text");
            Some(line.strip_prefix("publishing on ")?.to_owned())
        });
        Self {
            child,
            endpoint: endpoint.expect("it says where it publishes"),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Predicts, and floods.
pub fn measure(length: &Length) -> Vec<Prediction> {
    SIZES
        .into_iter()
        .map(|payload_bytes| {
            let size = payload_bytes.to_string();
            let plan = json(&[
                "plan",
                "--json",
                "--local-publisher",
                "--workers",
                "1",
                "--rate",
                "1000000",
                "--size",
                &size,
                "--measure",
                length.plan,
            ]);
            // Where the plan has them.
            let threads = plan["threads"].as_array().expect("threads").iter();
            let cores: Vec<String> = threads
                .filter_map(|thread| Some(thread["core"].as_u64()?.to_string()))
                .collect();
            let flood = Flood::start(&size);
            let cores = cores.join(",");
            let mut arguments = vec![
                "run",
                "--json",
                "--envelope",
                "pinfeed",
                "--workers",
                "1",
                "--connect",
                &flood.endpoint,
                "--for",
                length.flood,
            ];
            // The plan may place no thread.
            if !cores.is_empty() {
                arguments.extend(["--cores", &cores]);
            }
            let summary = json(&arguments);
            assert_eq!(summary["balanced"], true, "{summary}");
            Prediction {
                payload_bytes,
                predicted: plan["breaks_at"].as_f64().expect("a rate"),
                taken: summary["msgs_per_s"].as_f64().expect("a rate"),
            }
        })
        .collect()
}

/// Prints them as a table.
pub fn print(predictions: &[Prediction]) {
    println!(
        "## Prediction\n\nThe rate that `pinfeed plan --local-publisher` says this host breaks at, with one lane and one \
         worker, and what a flood from this host then took, by payload.\n\n\
         | bytes | predicted, M msg/s | taken, M msg/s | predicted to taken | within {:.0} % |\n|---|---|---|---|---|",
        100.0 * RIGHT_WITHIN
    );
    for one in predictions {
        let ratio = one.predicted / one.taken;
        println!(
            "| {} | {:.2} | {:.2} | {ratio:.2} | {} |",
            one.payload_bytes,
            one.predicted / 1e6,
            one.taken / 1e6,
            if (ratio - 1.0).abs() <= RIGHT_WITHIN {
                "yes"
            } else {
                "**no**"
            },
        );
    }
    println!();
}
