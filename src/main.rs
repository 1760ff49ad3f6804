//! The command `pinfeed`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pinfeed::host::huge_pages::decline();
    pinfeed::cli::run()
}
