//! `pinfeed report`: results as a page, as Markdown, or compared.

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    bench::record::Record,
    cli::{Ending, Failure, outputs, say},
    error::Error,
    findings::{self, Source},
};

/// Show results of bench, and logs of run, as one HTML page that needs nothing else: open it in a browser,
/// send it, keep it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folders that bench made with --output, and .hlog files of run
    #[arg(value_name = "FOLDER", required = true)]
    sources: Vec<PathBuf>,

    /// The page to write. A file that is there becomes FILE.1
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,

    /// Write Markdown to standard output instead, to be pasted into an issue
    #[arg(long, conflicts_with = "output")]
    markdown: bool,

    /// Say of each figure of the second folder whether it is better, worse or no different than in the first:
    /// better or worse by a rank test of their runs at 5 %, and medians more than 2 % apart. It takes 4 valid runs in
    /// each, or 5 and 3; the default of bench is 5
    #[arg(long, conflicts_with_all = ["output", "markdown"])]
    compare: bool,
}

pub(super) fn run(args: &Args) -> Result<Ending, Failure> {
    if args.compare {
        let [first, second] = &args.sources[..] else {
            return Err(Error::config(
                "--compare",
                args.sources.len(),
                "it takes two folders",
                "give the one to compare with, then the other",
            )
            .into());
        };
        let comparison = findings::compare(&Record::read(first)?, &Record::read(second)?)?;
        return print(&comparison.to_string());
    }
    let sources = args.sources.iter().map(|path| Source::read(path));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    if args.markdown {
        return print(&findings::markdown(&sources));
    }
    write(&args.output, &findings::page(&sources))?;
    say(format_args!("the report is in {}", args.output.display()));
    Ok(Ending::Ok)
}

fn print(text: &str) -> Result<Ending, Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::running("writing the report", &error))?;
    Ok(Ending::Ok)
}

/// Writes a file that is whole or not there: beside its place, then renamed. One that is there is kept.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let refuse = |problem: String| {
        let remedy = "give a file in a folder that can be written to";
        Error::config("--output", path.display(), problem, remedy)
    };
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(refuse("it is there and is not a file".to_owned()));
    }
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err(refuse("it is not a file".to_owned())),
    };
    if !folder.is_dir() {
        return Err(refuse(format!("there is no folder {}", folder.display())));
    }
    let failed = |error: std::io::Error| refuse(error.to_string());
    let mut file = tempfile::Builder::new()
        .prefix(".pinfeed-report-")
        // As any file; the usual mask takes what it takes.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    outputs::make_room("--output", path)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
