//! Recorded machines: `tests/machines/NAME.tree` as files below a folder. `tests/machines/README.md` has the format.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pinfeed::{
    config::Config,
    host::{
        doctor::{Check, Evidence, Outcome, Probed, Wanted, checks},
        machine::Machine,
    },
};
use tempfile::TempDir;

/// Returns a file of `tests/machines`.
pub fn recorded_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/machines")
        .join(name)
}

/// A recorded machine's files, to be read and to be changed.
pub struct Recorded(TempDir);

impl Recorded {
    /// A machine without any file.
    pub fn empty() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    pub fn named(name: &str) -> Self {
        let machine = Self::empty();
        let path = recorded_file(&format!("{name}.tree"));
        let text = fs::read_to_string(&path).expect("a recorded machine");
        let mut file = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            for line in expand(line) {
                if let Some(more) = line.strip_prefix('|') {
                    let file: &PathBuf = file.as_ref().expect("a file above");
                    let mut content = fs::read_to_string(file).expect("it was written");
                    content += more.strip_prefix(' ').unwrap_or(more);
                    fs::write(file, content + "\n").expect("it is written");
                } else if let Some((path, content)) = line.split_once(" =") {
                    file = Some(machine.write(path, &format!("{}\n", content.trim_start())));
                } else {
                    assert!(line.is_empty(), "{}: {line}", path.display());
                }
            }
        }
        machine
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, whatever was there.
    pub fn write(&self, path: &str, content: &str) -> PathBuf {
        let file = self.root().join(path);
        let folder = file.parent().expect("it is below the root");
        fs::create_dir_all(folder).expect("a folder");
        fs::write(&file, content).expect("it is written");
        file
    }

    /// Removes a file or a folder.
    pub fn remove(&self, path: &str) {
        let place = self.root().join(path);
        if place.is_dir() {
            fs::remove_dir_all(place).expect("a folder");
        } else {
            fs::remove_file(place).expect("a file");
        }
    }

    pub fn machine(&self) -> Machine {
        Machine::read(self.root())
    }

    /// Judges it by a configuration, or without one.
    pub fn judged(&self, feeds_toml: Option<&str>) -> Vec<Check> {
        let machine = self.machine();
        let wanted = wanted(&machine, feeds_toml);
        let probed = Probed::of_recorded();
        let evidence = Evidence {
            machine: &machine,
            probed: &probed,
            measured: None,
        };
        checks(&evidence, &wanted)
    }
}

/// What a configuration wants of a machine, or what is wanted without one.
pub fn wanted(machine: &Machine, feeds_toml: Option<&str>) -> Wanted {
    let Some(text) = feeds_toml else {
        return Wanted::candidates(machine);
    };
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("feeds.toml");
    fs::write(&path, text).expect("it is written");
    let config = Config::load(&path).expect("a configuration");
    config.wanted_on(machine)
}

/// Asserts how a check came out, and that what it found names `texts`.
pub fn assert_check(checks: &[Check], condition: &str, outcome: Outcome, texts: &[&str]) {
    let mut found = checks.iter().filter(|check| check.condition == condition);
    let check = found
        .next()
        .unwrap_or_else(|| panic!("{condition} is checked"));
    assert_eq!(check.outcome, outcome, "{check:?}");
    assert_eq!(
        check.mend.is_some(),
        outcome == Outcome::Failed,
        "{check:?}"
    );
    for text in texts {
        assert!(check.current.contains(text), "{text:?} in {check:?}");
    }
}

/// Makes of a line with a range one for each number of it.
fn expand(line: &str) -> Vec<String> {
    let is_range = |group: &str| {
        group.starts_with(|first: char| first.is_ascii_digit())
            && group
                .chars()
                .all(|one| one.is_ascii_digit() || "-,".contains(one))
    };
    let range = groups(line).into_iter().find(|group| is_range(group));
    let Some(range) = range else {
        return vec![substitute(line, |group| {
            group.contains('*').then(|| repeat(group))
        })];
    };
    let numbers = pinfeed::host::cpulist::parse(&range).expect("a range");
    let replaced = numbers.into_iter().map(|number| {
        substitute(line, |group| match group {
            "" => Some(number.to_string()),
            group if group == range => Some(number.to_string()),
            group if group.contains('*') => Some(repeat(group)),
            offset => {
                let sum = i64::try_from(number).expect("small") + offset.parse::<i64>().ok()?;
                Some(sum.to_string())
            }
        })
    });
    replaced.collect()
}

/// Returns what stands between braces.
fn groups(line: &str) -> Vec<String> {
    let parts = line.split('{').skip(1);
    let inner = parts.filter_map(|part| part.split_once('}'));
    inner.map(|(inner, _)| inner.to_owned()).collect()
}

fn substitute(line: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut text = line.to_owned();
    for group in groups(line) {
        let value = value(&group).unwrap_or_else(|| panic!("{{{group}}} in {line}"));
        text = text.replacen(&format!("{{{group}}}"), &value, 1);
    }
    text
}

/// Writes `text*times` out; `#` in the text is the number of the time.
fn repeat(group: &str) -> String {
    let (text, times) = group.rsplit_once('*').expect("it has one");
    let times: usize = times.parse().expect("a number of times");
    let copies: Vec<String> = (0..times)
        .map(|time| text.replace('#', &time.to_string()))
        .collect();
    copies.join(" ")
}
