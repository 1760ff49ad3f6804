//! What results show: result folders of benchmarks and interval logs of runs, as one HTML page, as Markdown,
//! or compared with each other.
//!
//! A page stands by itself: styles are in it, plots are SVG that is drawn twice, for wide windows and for
//! phones, and nothing is loaded or run. Times are nanoseconds, rates messages a second, unless a name says
//! otherwise.

mod compare;
mod figures;
mod heat;
mod markdown;
mod page;
mod plot;
mod rank;
mod source;
mod words;

pub use compare::{Comparison, Judgement, compare};
pub use markdown::markdown;
pub use page::page;
pub use source::{LoggedRun, Source};
