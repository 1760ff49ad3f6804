//! The HTML page. Markup is made by `maud`, which escapes all text.

mod folder;
mod parts;
mod run;
mod steps;
mod sweep;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    bench::record::Results,
    findings::{
        plot::{Line, lines, style_sheet},
        source::Source,
        words::file_name,
    },
    latency::log::FEED,
    report::counted,
};
use parts::{badge, merged, percentile_axes, percentile_line};

const STYLE: &str = include_str!("style.css");
/// Nothing is loaded and nothing is run, whatever files say.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Returns a page that shows all of the sources.
#[must_use]
pub fn page(sources: &[Source]) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "pinfeed report" }
                style { (PreEscaped(STYLE)) (PreEscaped(style_sheet())) }
            }
            body {
                main {
                    header {
                        h1 { "pinfeed report" }
                        p.dim { (counted(sources.len() as u64, ("result", "results"))) }
                    }
                    (side_by_side(sources))
                    @for source in sources {
                        article {
                            h2 { (source.title()) }
                            p.path { (source.path().display()) }
                            @if let Some((is_ok, why)) = source.verdict() { p { (badge(is_ok)) " " (why) } }
                            @match source {
                                Source::Folder(record) => (folder::folder(record)),
                                Source::Log(log) => (run::logged(log)),
                            }
                        }
                    }
                    footer {
                        "Made by pinfeed " (env!("CARGO_PKG_VERSION")) ". Percentiles end where fewer than ten \
                         samples lie beyond them. Nothing on this page is loaded from elsewhere."
                    }
                }
            }
        }
    };
    markup.into_string()
}

/// Shows the curves of all results at a rate on one plot, if there are several.
fn side_by_side(sources: &[Source]) -> Markup {
    let curves: Vec<_> = sources
        .iter()
        .filter_map(|source| {
            let name = file_name(source.path());
            let stage = match source {
                Source::Log(log) => log.stages.iter().find(|stage| stage.name == FEED)?.clone(),
                Source::Folder(record) => match &record.results {
                    Results::Latency(runs) => {
                        merged(runs.iter().filter(|run| run.verdict.is_ok()))?
                    }
                    _ => return None,
                },
            };
            Some((name, stage.histogram))
        })
        .filter(|(_, histogram)| !histogram.is_empty())
        .collect();
    if curves.len() < 2 {
        return html! {};
    }
    let histograms: Vec<_> = curves.iter().map(|(_, histogram)| histogram).collect();
    let (across, up) = percentile_axes(&histograms);
    let drawn: Vec<Line> = curves
        .iter()
        .map(|(name, histogram)| percentile_line(name, histogram))
        .collect();
    html! {
        article {
            h2 { "Side by side" }
            p.note { "All valid runs of each result together: publisher's timestamp to handler start." }
            (lines("Feed latency by percentile", &across, &up, &drawn))
        }
    }
}
