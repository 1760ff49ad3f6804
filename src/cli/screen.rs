//! The terminal while the view has it, and how it is given back on every way out.
//!
//! The view is drawn on standard error, on the terminal's other screen, and keys are read raw. What is said
//! meanwhile is held and said afterwards.

use std::{
    fmt,
    io::{self, BufWriter, IsTerminal, Stderr, stderr},
    panic,
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use crate::{
    cli::{Failure, say},
    error::Error,
};

/// The most lines that are held; older ones give way.
const HELD_MAX: usize = 1_000;
/// How long a terminal that takes nothing is waited for when the process ends at once.
const RESTORE_LIMIT: Duration = Duration::from_millis(500);

/// Whether the view has the terminal.
static UP: AtomicBool = AtomicBool::new(false);
/// Held while the terminal is written to, so that nothing is drawn over one that was given back.
static WRITING: Mutex<()> = Mutex::new(());
/// What was said meanwhile.
static HELD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The terminal, taken for the view. Dropping it gives the terminal back.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
}

/// Checks that there is a terminal to draw on.
///
/// # Errors
/// Bad input, where standard error is none.
pub(super) fn check() -> Result<(), Failure> {
    if stderr().is_terminal() {
        return Ok(());
    }
    Err(no_terminal("standard error is no terminal".to_owned()))
}

fn no_terminal(problem: String) -> Failure {
    let remedy = "run it in a terminal, or leave --tui out";
    Error::config("--tui", "", problem, remedy).into()
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Bad input, where there is none to read keys from or to draw on.
    pub(super) fn open() -> Result<Self, Failure> {
        static HOOK: Once = Once::new();
        HOOK.call_once(give_back_on_panic);
        let refused =
            |error: io::Error| no_terminal(format!("the terminal could not be set up ({error})"));
        enable_raw_mode().map_err(refused)?;
        UP.store(true, SeqCst);
        let opened = execute!(stderr(), EnterAlternateScreen, Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(stderr()))));
        opened.map(|terminal| Self { terminal }).map_err(|error| {
            restore();
            refused(error)
        })
    }
}

impl Screen {
    /// Draws, if the view still has the terminal.
    ///
    /// # Errors
    /// Where the terminal went away.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let _writing = writing();
        if UP.load(SeqCst) {
            self.terminal.draw(draw)?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
        for line in held().drain(..) {
            say(format_args!("{line}"));
        }
    }
}

fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal back, if the view has it, once nothing is being drawn.
fn restore() {
    let _writing = writing();
    give_back();
}

fn give_back() {
    if UP.swap(false, SeqCst) {
        // Where it went away there is nothing to give back.
        let _ = disable_raw_mode();
        let _ = execute!(stderr(), LeaveAlternateScreen, Show);
    }
}

/// Gives the terminal back before the process ends at once. Does not wait for long for a terminal that takes
/// nothing.
pub(super) fn restore_soon() {
    let (done, restored) = mpsc::channel();
    thread::spawn(move || {
        restore();
        done.send(())
    });
    let _ = restored.recv_timeout(RESTORE_LIMIT);
}

/// Keeps a line for later, if the view has the terminal. Returns whether it does.
pub(super) fn hold(line: fmt::Arguments<'_>) -> bool {
    let up = UP.load(SeqCst);
    if up {
        let mut held = held();
        if held.len() == HELD_MAX {
            held.remove(0);
        }
        held.push(line.to_string());
    }
    up
}

fn held() -> MutexGuard<'static, Vec<String>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a panic of the view's own thread give the terminal back first. Those of others, a handler's perhaps,
/// are said when the view has ended.
fn give_back_on_panic() {
    let viewer = thread::current().id();
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == viewer {
            // Not waiting for a drawing to end: it may be the one that panicked.
            give_back();
        } else if hold(format_args!("{info}")) {
            return;
        }
        previous(info);
    }));
}
