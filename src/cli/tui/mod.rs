//! The full-screen live view: what a pipeline does, drawn until it stops.
//!
//! The loop here reads keys and sets the pace, `sampler` takes a picture of the pipeline twice a second,
//! `draw` puts it on the screen. The pipeline knows nothing of it. `bench` is the same for benchmarks, whose
//! pictures come from the files that their processes write.

mod bench;
mod draw;
mod layout;
mod look;
mod model;
mod sampler;
mod table;
mod tables;
mod theme;
mod title;
mod topics;

pub(super) use bench::{BenchView, Board as BenchBoard, Done, Left};
pub(super) use topics::{Board, Watched};

use std::{iter, thread, time::Duration};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::{
    cli::{
        Failure,
        histograms::Histograms,
        intervals::{Intervals, Share},
        live::TICK,
        screen::Screen,
        signals::Signals,
    },
    config::Config,
    latency::Stages,
    ledger::Totals,
    pipeline::{Outcome, Pipeline},
    worker::Handler,
};
use look::Look;
use model::{PICTURE_EVERY_S, Picture};
use sampler::Sampler;
use theme::Theme;

/// Watches a pipeline on the whole terminal until it has stopped. `board` is where its handlers note down topics,
/// if they do; `histograms` are written as [elsewhere](crate::cli::live::watch), and `tick` is called some fifty
/// times a second with the ledger, and may request the pipeline to stop.
///
/// # Errors
/// Bad input, where there is no terminal.
pub(super) fn watch<H: Handler>(
    mut pipeline: Pipeline<H>,
    config: &Config,
    board: Option<Board>,
    histograms: &mut Histograms,
    signals: &Signals,
    mut tick: impl FnMut(&mut Pipeline<H>, &Totals),
) -> Result<Outcome<H>, Failure> {
    let mut view = View {
        screen: Some(Screen::open()?),
        look: Look::new(Theme::of_environment()),
        shown: Picture::default(),
    };
    let every = Duration::from_secs_f64(PICTURE_EVERY_S);
    let mut sampler = Sampler::new(config, board);
    view.shown = sampler.picture(&mut pipeline, &Stages::default(), false);
    view.draw();
    let mut intervals = Intervals::default();
    let mut pictured = Share::new(every);
    let mut logged = histograms.interval().map(Share::new);
    while !pipeline.is_finished() {
        let mut changed = view.wait(signals);
        let totals = pipeline.look();
        tick(&mut pipeline, &totals);
        sampler.glance(&pipeline);
        if intervals.collect(&mut pipeline, iter::once(&mut pictured).chain(&mut logged)) {
            if let Some(interval) = pictured.take_due() {
                let is_draining = signals.stop().requested();
                let picture = sampler.picture(&mut pipeline, interval.stages, is_draining);
                if !view.look.is_paused {
                    view.shown = picture;
                    changed = true;
                }
            }
            if let Some(interval) = logged.as_mut().and_then(Share::take_due) {
                histograms.write(&interval);
            }
        }
        if changed {
            view.draw();
        }
    }
    let outcome = pipeline.finish();
    if let Some(share) = &mut logged {
        histograms.write(&share.take_last(&outcome));
    }
    Ok(outcome)
}

/// The screen, and what is shown on it.
struct View {
    /// None once it has failed: that the terminal went away is no reason to stop.
    screen: Option<Screen>,
    look: Look,
    shown: Picture,
}

impl View {
    /// Waits for a tick, or for keys, and does what they ask for. Returns whether to draw anew.
    fn wait(&mut self, signals: &Signals) -> bool {
        if self.screen.is_none() {
            thread::sleep(TICK);
            return false;
        }
        let mut changed = false;
        let mut limit = TICK;
        loop {
            match event::poll(limit).and_then(|some| some.then(event::read).transpose()) {
                Ok(Some(event)) => changed |= self.take(&event, signals),
                Ok(None) => return changed,
                Err(_) => {
                    self.screen = None;
                    return false;
                }
            }
            limit = Duration::ZERO;
        }
    }

    fn take(&mut self, event: &Event, signals: &Signals) -> bool {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.press(*key, signals),
            Event::Resize(..) => true,
            _ => false,
        }
    }

    fn press(&mut self, key: KeyEvent, signals: &Signals) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => signals.interrupt(),
            KeyCode::Char('q') => signals.quit(),
            KeyCode::Char('p') => self.look.is_paused = !self.look.is_paused,
            KeyCode::Char('s') => self.look.sort = self.look.sort.next(),
            KeyCode::Char('?') => self.look.is_helping = !self.look.is_helping,
            _ => return false,
        }
        true
    }

    fn draw(&mut self) {
        let Some(screen) = &mut self.screen else {
            return;
        };
        let (picture, look) = (&self.shown, &self.look);
        let drawn = screen.draw(|frame| draw::draw(frame, picture, look));
        if drawn.is_err() {
            self.screen = None;
        }
    }
}
