//! `pinfeed report`: a page of real results that shows all plots and loads nothing, in wide and narrow windows,
//! light and dark; Markdown; a comparison; and one clear error for each kind of bad input.

#![allow(missing_docs)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use support::{Pinfeed, browser::Browser};
use tempfile::{TempDir, tempdir};

/// Folders that benchmarks have made.
struct Made {
    _parent: TempDir,
    latency: PathBuf,
    throughput: PathBuf,
    sweep: PathBuf,
    sweep_at_rate: PathBuf,
    replay: PathBuf,
    capacity: PathBuf,
}

/// Runs the benchmarks, once for all tests. Whether rates were held does not matter.
fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let parent = tempdir().expect("a folder");
        let bench = |name: &str, arguments: &str| {
            let output = parent.path().join(name);
            let mut words: Vec<&str> = ["bench"].into_iter().chain(arguments.split(' ')).collect();
            words.extend(["--output", output.to_str().expect("text")]);
            let mut process = Pinfeed::start(&words);
            let (status, _) = process.finish();
            let code = status.code();
            assert!(matches!(code, Some(0 | 1)), "{}", process.said);
            let entry = fs::read_dir(output).expect("a folder").next();
            entry.expect("a result").expect("an entry").path()
        };
        // Ten messages a millisecond, at once.
        let capture = parent.path().join("captured");
        let line = |message: u64| {
            let time_ns = 1_723_000_000_000_000_000 + message / 10 * 1_000_000;
            format!("{time_ns} {{\"stream\":\"btcusdt@trade\",\"data\":{message}}}\n")
        };
        fs::write(&capture, (0..1_000).map(line).collect::<String>()).expect("a capture");
        let lengths = "--for 600ms --warm-up 0s";
        let replay = format!(
            "replay {} --speeds 0.1,1,10 --objective max<1h,loss=0 {lengths}",
            text(&capture)
        );
        Made {
            latency: bench(
                "latency",
                "latency --rate 5000 --for 2s --warm-up 500ms --runs 2 --hiccups",
            ),
            throughput: bench("throughput", "throughput --runs 4 --messages 40000"),
            sweep: bench(
                "sweep",
                "sweep --vary size=28,256,4096 --runs 4 --messages 40000",
            ),
            sweep_at_rate: bench(
                "sweep-at-rate",
                &format!("sweep --vary batch=1,1024 --runs 1 --rate 5000 {lengths}"),
            ),
            replay: bench("replay", &replay),
            // Nothing is handled within a nanosecond: the first rate is tried twice at least.
            capacity: bench(
                "capacity",
                "capacity --objective queue.max<1ns --from 5000 --for 300ms --warm-up 0s",
            ),
            _parent: parent,
        }
    })
}

fn report(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut process = Pinfeed::start(&[&["report"], arguments].concat());
    let (status, output) = process.finish();
    (status.code(), output, process.said.clone())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Copies a result folder, and returns the copy.
fn copy(folder: &Path, to: &Path) -> PathBuf {
    let copy = to.join("copy");
    fs::create_dir(&copy).expect("a new folder");
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
    }
    copy
}

/// Changes `summary.json` of a folder.
fn edit(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("summary.json");
    let mut summary = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut summary);
    fs::write(path, summary.to_string()).unwrap();
}

#[test]
fn a_page_shows_what_is_in_the_folders_and_escapes_it() {
    let parent = tempdir().unwrap();
    let folder = copy(&made().latency, parent.path());
    edit(&folder, |summary| {
        summary["command_line"][0] = json!("<script>alert(1)</script>");
        summary["environment"]["cpu"] = json!("<img src=http://example.com/x>");
        summary["results"][0]["anomalies"] = json!([{
            "at_ns": 1_500_000_000_u64, "until_ns": 1_500_000_000_u64, "kind": "gap", "hop": "network",
            "feed": "feed", "topic": "", "count": 7, "times": 1, "evidence": "<b>7 missing</b>",
        }]);
    });
    let loss = "INVALID: 7 messages sent were not received, and are in no percentile";
    edit(&folder, |summary| {
        summary["results"][1]["verdict"] = json!(loss)
    });
    let (_, said, _) = report(&["--markdown", text(&folder)]);
    assert!(said.contains(&format!("\n| 2 | {loss} | ")), "{said}");
    let output = parent.path().join("page.html");
    let throughput = text(&made().throughput);
    let [log, other_log] = ["run-1.hlog", "run-2.hlog"].map(|name| folder.join(name));
    let arguments = [
        text(&folder),
        throughput,
        text(&made().sweep),
        text(&made().sweep_at_rate),
        text(&made().replay),
        text(&log),
        text(&other_log),
        "--output",
        text(&output),
    ];
    let (code, _, said) = report(&arguments);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the report is in "), "{said}");
    let page = fs::read_to_string(&output).unwrap();
    fs::write(&output, "precious").unwrap();
    let (code, _, said) = report(&arguments);
    assert_eq!(code, Some(0), "{said}");
    let kept = format!("{}.1", output.display());
    assert_eq!(fs::read_to_string(&kept).unwrap(), "precious");
    assert_eq!(fs::read_to_string(&output).unwrap(), page);
    assert!(said.contains(&format!("it is {kept} now")), "{said}");
    for shown in [
        "Latency at 5.00k msg/s",
        "Throughput, flat out",
        "Interval log run-1.hlog",
        "Side by side",
        "Sweep of size, flat out",
        "CPU time a message by size: less is better",
        "Sweep of batch at 5.00k msg/s",
        "batch=1024, run 1 over time",
        "Replay of captured",
        "0.1x over time",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&lt;img src=http://example.com/x&gt;",
        "&lt;b&gt;7 missing&lt;/b&gt;",
        "bench latency --rate 5000",
        &format!("run 2: {loss}"),
        "worst hiccup of the platform",
        "CPU time of the subject's threads",
        "one inproc PUSH a message, 2 workers",
    ] {
        assert!(page.contains(shown), "{shown} is not on the page");
    }
    for absent in [
        "<script", "<img", "<b>7", "src=\"", "href=", "url(", "@import",
    ] {
        assert!(!page.contains(absent), "{absent} is on the page");
    }
}

#[test]
fn markdown_goes_to_standard_output() {
    let made = made();
    let folders = [
        &made.latency,
        &made.throughput,
        &made.sweep,
        &made.sweep_at_rate,
        &made.replay,
    ];
    let folders = folders.map(|folder| text(folder));
    let (code, output, said) = report(&[&["--markdown"], &folders[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    for shown in [
        "## Latency at 5.00k msg/s\n",
        "| run | verdict | p50 |",
        "| bare libzmq SUB loop |",
        "## Sweep of size, flat out\n",
        "| size | verdict | msg/s, median |",
        "\n| 4096 | ",
        "| batch | verdict | CPU a message | p50 |",
        "## Replay of captured\n",
        "\n| 0.1x | ",
        "\n    ",
        " bench throughput --runs 4 --messages 40000 --output ",
    ] {
        assert!(output.contains(shown), "{shown} is not in {output}");
    }
}

#[test]
fn figures_are_compared_by_what_runs_leave_no_doubt_about() {
    let made = made();
    let (parent, folder) = (tempdir().unwrap(), text(&made.throughput));
    let (code, same, _) = report(&["--compare", folder, folder]);
    assert_eq!(code, Some(0));
    assert!(same.contains("  no difference  "), "{same}");
    for other in ["  better  ", "  worse  ", "differs: "] {
        assert!(!same.contains(other), "{same}");
    }

    let faster = copy(&made.throughput, parent.path());
    edit(&faster, |summary| {
        summary["parameters"]["wait"] = json!("spin");
        let runs = &mut summary["results"]["contenders"][0]["runs"];
        for run in runs.as_array_mut().unwrap() {
            // Beyond any other, however noisy the machine.
            run["msgs_per_s"] = json!(run["msgs_per_s"].as_f64().unwrap() * 1e6);
        }
    });
    let (_, output, _) = report(&["--compare", folder, text(&faster)]);
    let line = |name: &str| {
        let found = output.lines().find(|line| line.starts_with(name));
        found
            .unwrap_or_else(|| panic!("{name} is not in {output}"))
            .to_owned()
    };
    assert!(
        line("pinfeed, native: rate").contains("  better  "),
        "{output}"
    );
    assert!(line("bare libzmq SUB loop: rate").contains("  no difference  "));
    assert!(line("differs: wait: ").ends_with("park in the first, spin in the second"));
    let (_, output, _) = report(&["--compare", text(&faster), folder]);
    assert!(output.contains("  worse  "), "{output}");

    let slower = tempdir().unwrap();
    let slower = copy(&made.sweep, slower.path());
    edit(&slower, |summary| {
        let runs = &mut summary["results"]["points"][1]["runs"];
        for run in runs.as_array_mut().unwrap() {
            run["cpu_ns_per_msg"] = json!(run["cpu_ns_per_msg"].as_f64().unwrap() * 1e6);
        }
        // Nothing is left of it, and its figures are null.
        let runs = &mut summary["results"]["points"][2]["runs"];
        for run in runs.as_array_mut().unwrap() {
            run["verdict"] = json!("INVALID: the subject ended with exit status: 1");
        }
        summary["results"]["figures"][2]["msgs_per_s_to_first"] = json!(null);
    });
    let (code, output, said) = report(&["--compare", text(&made.sweep), text(&slower)]);
    assert_eq!(code, Some(0), "{said}");
    let line = |name: &str| output.lines().find(|line| line.starts_with(name));
    let cost = line("size=256: CPU time a message").unwrap();
    assert!(cost.contains("  worse  "), "{output}");
    assert!(line("size=28: rate").unwrap().contains("  no difference  "));
    assert_eq!(line("size=4096: rate"), None, "{output}");
    assert!(output.contains("4 INVALID runs of the second left out"));
    let (_, output, _) = report(&["--markdown", text(&slower)]);
    for shown in [
        "**INVALID**: size=4096 has no valid run",
        "| 4096 | INVALID: 4 of 4 runs, so nothing is known | - |",
        "size=4096, run 3: INVALID: the subject ended with exit status: 1",
    ] {
        assert!(output.contains(shown), "{shown} is not in {output}");
    }
    let page = slower.join("page.html");
    let (code, _, said) = report(&[text(&slower), "--output", text(&page)]);
    assert_eq!(code, Some(0), "{said}");
    let (code, output, said) = report(&["--compare", text(&made.replay), text(&made.replay)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(output.contains("a speed has one run"), "{output}");
    let judged = output.contains("  too few runs  ") || output.contains("no figure that both have");
    assert!(judged, "{output}");
    assert!(!output.contains("  better  "), "{output}");

    // What only one has is named.
    let shorter = tempdir().unwrap();
    let shorter = copy(&made.sweep, shorter.path());
    edit(&shorter, |summary| {
        drop(summary["results"]["points"].as_array_mut().unwrap().pop());
    });
    let (_, output, _) = report(&["--compare", text(&made.sweep), text(&shorter)]);
    let expected = "only the first has size=4096: rate, size=4096: CPU time a message\n";
    assert!(output.contains(expected), "{output}");

    // Two runs, or fewer where some are invalid.
    let latency = text(&made.latency);
    let (code, output, _) = report(&["--compare", latency, latency]);
    assert_eq!(code, Some(0));
    let judged = output.contains("  too few runs  ") || output.contains("no figure that both have");
    assert!(judged, "{output}");
    let invalid = tempdir().unwrap();
    let invalid = copy(&made.latency, invalid.path());
    edit(&invalid, |summary| {
        summary["results"][0]["verdict"] =
            json!("INVALID: rate missed by 5.0 %: the generator gave out");
    });
    let (_, output, _) = report(&["--compare", latency, text(&invalid)]);
    assert!(output.contains("of the second left out"), "{output}");

    let (code, _, said) = report(&["--compare", latency, folder]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("compare two folders of the same benchmark"),
        "{said}"
    );
    let (code, _, said) = report(&["--compare", folder]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("--compare = 1: it takes two folders"),
        "{said}"
    );
}

/// Damages a folder, and says what an error has to name.
type Damage = (fn(&Path), &'static [&'static str]);

#[test]
fn damage_is_named_with_its_place_and_a_remedy() {
    let damages: [Damage; 11] = [
        (
            |folder| fs::remove_file(folder.join("summary.json")).unwrap(),
            &["summary.json: it is missing; give a folder that pinfeed bench has made"],
        ),
        (
            |folder| cut(&folder.join("summary.json")),
            &[
                "summary.json: EOF",
                " line ",
                " column ",
                "; restore the file",
            ],
        ),
        (
            |folder| edit(folder, |summary| summary["format"] = json!(99)),
            &["summary.json: its format is 99, and this pinfeed reads format 1; read it with"],
        ),
        (
            |folder| {
                edit(folder, |summary| {
                    drop(summary.as_object_mut().unwrap().remove("format"))
                })
            },
            &["summary.json: its format is none"],
        ),
        (
            |folder| edit(folder, |summary| summary["kind"] = json!("weather")),
            &["summary.json: its kind is weather; give folders of bench latency"],
        ),
        (
            |folder| {
                edit(folder, |summary| {
                    summary["results"][0]["verdict"] = json!("fine")
                })
            },
            &[
                "summary.json: \"fine\" is no verdict at line 1 column ",
                "; restore",
            ],
        ),
        (
            |folder| {
                edit(folder, |summary| {
                    summary["results"][0]["step"] = json!("../run-1")
                })
            },
            &["summary.json: \"../run-1\" is no name of a run; restore"],
        ),
        (
            |folder| cut(&folder.join("run-2.hlog")),
            &["run-2.hlog:", "truncated; delete this line"],
        ),
        (
            |folder| fs::remove_file(folder.join("run-1.generator.hlog")).unwrap(),
            &["run-1.generator.hlog: it is missing; restore the file"],
        ),
        (
            |folder| {
                fs::copy(folder.join("run-1.hlog"), folder.join("run-2.hlog")).unwrap();
                edit(folder, |summary| {
                    summary["results"][1]["latency_ns"]["feed"]["count"] = json!(1);
                });
            },
            &[
                "run-2.hlog: its feed holds ",
                "not those summed up in summary.json, 1; restore",
            ],
        ),
        (
            |folder| {
                let path = folder.join("run-1.series.csv");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace("lane-0,", "lane-0,x")).unwrap();
            },
            &["run-1.series.csv: line ", "; delete this line"],
        ),
    ];
    for (damage, expected) in damages {
        let parent = tempdir().unwrap();
        let folder = copy(&made().latency, parent.path());
        damage(&folder);
        let output = parent.path().join("page.html");
        refused(
            &[text(&folder), "--output", text(&output)],
            parent.path(),
            expected,
        );
    }
}

/// Cuts a file in its middle.
fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
}

/// Checks that a report is refused in one line, and leaves nothing in `parent` beside the folder `copy`.
fn refused(arguments: &[&str], parent: &Path, expected: &[&str]) {
    let names = || {
        let entries = fs::read_dir(parent).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let (code, output, said) = report(arguments);
    assert_eq!(
        (code, output.as_str()),
        (Some(2), ""),
        "{arguments:?}: {said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in expected {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert_eq!(names(), before);
}

#[test]
fn logs_of_sweeps_and_replays_are_checked() {
    let made = made();
    for (folder, log) in [
        (&made.sweep_at_rate, "run-1-batch1024.hlog"),
        (&made.replay, "step-1-speed0.1.generator.hlog"),
    ] {
        let parent = tempdir().unwrap();
        let folder = copy(folder, parent.path());
        fs::remove_file(folder.join(log)).unwrap();
        let expected = format!("{log}: it is missing; restore the file");
        refused(&["--markdown", text(&folder)], parent.path(), &[&expected]);
    }
}

#[test]
fn what_is_no_folder_and_what_cannot_be_written_is_refused() {
    let parent = tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    let (absent, file, page) = (at("absent"), at("file"), at("page.html"));
    fs::write(&file, "text").unwrap();
    fs::write(at("empty.hlog"), "").unwrap();
    let empty = at("empty.hlog");
    let latency = text(&made().latency);
    let inside = at("absent/page.html");
    for (arguments, expected) in [
        (
            [text(&absent), "--output", text(&page)],
            "absent: there is no such folder; give a folder",
        ),
        (
            [text(&file), "--output", text(&page)],
            "file: it is not a folder; give a folder",
        ),
        (
            [text(&empty), "--output", text(&page)],
            "empty.hlog:1: the file is empty; give",
        ),
        (
            [latency, "--output", text(&inside)],
            "; give a file in a folder that can be written to",
        ),
        (
            [latency, "--output", text(parent.path())],
            "it is there and is not a file; give a file",
        ),
        (
            [latency, "--output", "/dev/full"],
            "--output = /dev/full: it is there and is not a file",
        ),
    ] {
        refused(&arguments, parent.path(), &[expected]);
    }
}

/// What a page looks like: sizes of the plots that are visible, how far it is wider than the window, labels
/// that overlap, are cut or too small, and its background.
const LOOK: &str = "(() => {
    const visible = [...document.querySelectorAll('svg')].filter(svg => svg.getClientRects().length);
    const problems = [];
    for (const svg of visible) {
        const frame = svg.getBoundingClientRect();
        const labels = [...svg.querySelectorAll('text')].map(text => [text.textContent.trim(), text.getBoundingClientRect()]);
        for (const [words, box] of labels) {
            if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
                problems.push('cut: ' + words);
            if (box.height < 11) problems.push('small: ' + words);
        }
        labels.forEach(([one, a], at) => labels.slice(at + 1).forEach(([other, b]) => {
            if (a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom)
                problems.push('overlap: ' + one + ' / ' + other);
        }));
    }
    return {
        sizes: visible.map(svg => [svg.clientWidth, svg.clientHeight]),
        titles: visible.every(svg => svg.querySelector('title').textContent),
        tooWide: document.documentElement.scrollWidth - window.innerWidth,
        back: getComputedStyle(document.body).backgroundColor,
        problems,
    };
})()";

#[test]
fn a_browser_shows_all_plots_and_asks_for_nothing() {
    let profile = tempdir().unwrap();
    let Some(mut browser) = Browser::start(profile.path()) else {
        return;
    };
    let made = made();
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = shots.join("report.html");
    let arguments = [
        text(&made.latency),
        text(&made.throughput),
        text(&made.sweep),
        text(&made.sweep_at_rate),
        text(&made.replay),
        text(&made.capacity),
        "--output",
        text(&output),
    ];
    let (code, _, said) = report(&arguments);
    assert_eq!(code, Some(0), "{said}");
    let url = format!("file://{}", output.display());
    let mut backgrounds = Vec::new();
    for width in [375, 1280] {
        for scheme in ["light", "dark"] {
            browser.load(&url, (width, 900), scheme);
            let look = browser.evaluate(LOOK);
            let sizes = look["sizes"].as_array().unwrap();
            // Percentiles, heat map, CPU time, queues; three plots of bars; two of each sweep.
            assert!(sizes.len() >= 11, "{look}");
            for size in sizes {
                let (across, up) = (size[0].as_u64().unwrap(), size[1].as_u64().unwrap());
                assert!(across > 300 && up > 100, "{look}");
            }
            assert_eq!(look["titles"], true, "{look}");
            assert_eq!(look["tooWide"], 0, "{width} px: {look}");
            assert_eq!(look["problems"], json!([]), "{width} px");
            backgrounds.push(look["back"].clone());
            for event in &browser.events {
                match event["method"].as_str().unwrap() {
                    "Network.requestWillBeSent" => {
                        assert_eq!(event["params"]["request"]["url"], json!(url));
                    }
                    "Page.loadEventFired" => {}
                    _ => panic!("on the console: {event}"),
                }
            }
            let shot = json!({"captureBeyondViewport": true});
            let shot = browser.call("Page.captureScreenshot", shot);
            let bytes = BASE64_STANDARD
                .decode(shot["data"].as_str().unwrap())
                .unwrap();
            fs::write(shots.join(format!("report-{width}-{scheme}.png")), bytes).unwrap();
        }
    }
    assert_ne!(
        backgrounds[0], backgrounds[1],
        "dark and light are the same"
    );
    assert_eq!(backgrounds[..2], backgrounds[2..]);
}
