//! The full-screen view of a benchmark: how far it has come, what the step under way shows, and what those before it
//! came to.
//!
//! The benchmark notes down how far it is on a [`Board`]. A thread of the view reads keys, reads on in the files that
//! the step writes anyway, and draws twice a second: nothing is added to a message's way.

mod draw;
mod model;
mod sampler;

pub(in crate::cli) use model::{Board, Done, Left};

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::{
    cli::{Failure, screen::Screen, signals::Signals, tui::theme::Theme},
    clock::Deadline,
    stop::Stop,
};
use draw::Look;
use model::{Seen, Step};
use sampler::Sampler;

/// How often keys are looked for.
const TICK: Duration = Duration::from_millis(50);
/// How often the picture is drawn.
const PICTURE_EVERY: Duration = Duration::from_millis(500);

/// The view of a benchmark. Dropping it gives the terminal back.
pub(in crate::cli) struct BenchView {
    board: Arc<Mutex<Board>>,
    end: Stop,
    thread: Option<JoinHandle<()>>,
}

impl BenchView {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Bad input, where there is no terminal.
    pub(in crate::cli) fn open(board: Board, signals: Arc<Signals>) -> Result<Self, Failure> {
        let (board, end) = (Arc::new(Mutex::new(board)), Stop::default());
        let (say, word) = channel::bounded(1);
        let viewer = {
            let (board, end) = (board.clone(), end.clone());
            // On the thread that draws, whose panics give the terminal back.
            move || match Screen::open() {
                Ok(screen) => {
                    let _ = say.send(Ok(()));
                    watch(screen, &board, &signals, &end);
                }
                Err(failure) => drop(say.send(Err(failure))),
            }
        };
        let started = thread::Builder::new().name("view".to_owned()).spawn(viewer);
        let thread = started.map_err(|error| Failure::running("starting the view", &error))?;
        let view = Self {
            board,
            end,
            thread: Some(thread),
        };
        // Where it ended without a word it has panicked, and said so.
        word.recv().unwrap_or(Ok(()))?;
        Ok(view)
    }

    /// Returns what is shown, to be changed.
    pub(in crate::cli) fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    /// Notes that a step has begun, whose files are called so.
    pub(in crate::cli) fn begin(&self, name: &str, files: PathBuf) {
        self.board().step = Some(Step::new(name, files));
    }
}

impl Drop for BenchView {
    fn drop(&mut self) {
        self.end.request();
        // It panics only where this crate has a defect, and has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws until the benchmark ends or the terminal goes away, which is no reason for the benchmark to stop.
fn watch(mut screen: Screen, board: &Mutex<Board>, signals: &Signals, end: &Stop) {
    let mut sampler = Sampler::default();
    let mut look = Look::new(Theme::of_environment());
    let mut shown: Option<(Board, Seen)> = None;
    let mut due = Deadline::after(Duration::ZERO);
    while !end.requested() {
        let mut changed = false;
        if due.passed() {
            due = Deadline::after(PICTURE_EVERY);
            let now = lock(board).clone();
            let seen = sampler.look(&now).clone();
            if !look.is_paused {
                shown = Some((now, seen));
                changed = true;
            }
        }
        match event::poll(TICK).and_then(|some| some.then(event::read).transpose()) {
            Ok(Some(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                changed |= press(key, &mut look, signals);
            }
            Ok(Some(Event::Resize(..))) => changed = true,
            Ok(_) => {}
            Err(_) => return,
        }
        if let (true, Some((board, seen))) = (changed, &shown)
            && screen
                .draw(|frame| draw::draw(frame, board, seen, look))
                .is_err()
        {
            return;
        }
    }
}

fn press(key: KeyEvent, look: &mut Look, signals: &Signals) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => signals.interrupt(),
        // What is not finished leaves nothing, so this is no other end than that.
        KeyCode::Char('q') => signals.interrupt(),
        KeyCode::Char('p') => look.is_paused = !look.is_paused,
        _ => return false,
    }
    true
}
