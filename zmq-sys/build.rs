//! Builds libzmq 4.3.5 with what Linux offers, with its draft API and with CURVE over libsodium.
//!
//! libzmq learns about its platform from the `platform.hpp` that `configure` or `cmake` writes.
//! `zeromq-src` runs neither: it leaves that header empty and defines a few of its macros itself.
//! [`PLATFORM`] is the rest. To libzmq a missing macro is a missing feature, about which it almost
//! never complains: hence the note on each group about what is lost without it.

use std::env;

/// The definitions `configure` would find on a Linux of the last ten years, beyond those
/// `zeromq-src` makes (Linux, epoll, poll, ipc, `strnlen`, `strlcpy`, `uio`, condition variables).
///
/// Two are left out. `HAVE_FORK` lets a forked child that did not exec terminate the context of its
/// parent, at the price of a `getpid` call at every wake-up and every empty receive (272 instead of
/// 183 ns for an empty `zmq_msg_recv` with `ZMQ_DONTWAIT`). `ZMQ_HAVE_PPOLL` serves `zmq_ppoll`
/// alone, which the bindings do not have.
const PLATFORM: &[&str] = &[
    // Threads. Without these, setting ZMQ_THREAD_AFFINITY_CPU_ADD succeeds and pins nothing, and
    // every thread carries the name of the program.
    "ZMQ_HAVE_PTHREAD_SET_AFFINITY",
    "ZMQ_HAVE_PTHREAD_SETNAME_2",
    // Waking another thread. Without it each mailbox is a socket pair: two descriptors instead of
    // one, and the dearer system calls.
    "ZMQ_HAVE_EVENTFD",
    // Timers. Without it heartbeats, reconnects and handshake limits follow the wall clock, and a
    // step of that clock fires or stalls them.
    "HAVE_CLOCK_GETTIME",
    // Interfaces. Without the first, tcp://eth0:5555 fails with ENODEV; without the second, an
    // interface name in a link-local IPv6 address or a multicast source is not resolved.
    "ZMQ_HAVE_IFADDRS",
    "HAVE_IF_NAMETOINDEX",
    // Socket options. Without these, ZMQ_BINDTODEVICE is accepted and then every connection fails
    // out of sight of the caller; ZMQ_TCP_KEEPALIVE*, ZMQ_BUSY_POLL and ZMQ_PRIORITY are accepted
    // and ignored.
    "ZMQ_HAVE_SO_BINDTODEVICE",
    "ZMQ_HAVE_SO_KEEPALIVE",
    "ZMQ_HAVE_TCP_KEEPCNT",
    "ZMQ_HAVE_TCP_KEEPIDLE",
    "ZMQ_HAVE_TCP_KEEPINTVL",
    "ZMQ_HAVE_BUSY_POLL",
    "ZMQ_HAVE_SO_PRIORITY",
    // The ipc transport. Without the first, no filter by peer process, user or group; without the
    // second, ipc://* makes its name in a way that another process can take over.
    "ZMQ_HAVE_SO_PEERCRED",
    "HAVE_MKDTEMP",
    // Closing on exec. Without these a child program inherits the epoll and event descriptors, and
    // sockets too if it is started between their creation and the fcntl call that then marks them.
    "ZMQ_HAVE_SOCK_CLOEXEC",
    "HAVE_ACCEPT4",
    "ZMQ_HAVE_EVENTFD_CLOEXEC",
    "ZMQ_IOTHREAD_POLLER_USE_EPOLL_CLOEXEC",
    // Cache lines. Without these the chunks of a pipe, shared by two threads, start anywhere in a
    // cache line. 64 bytes is what x86-64 and the Arm server cores have.
    "HAVE_POSIX_MEMALIGN",
    "ZMQ_CACHELINE_SIZE=64",
    // C++11. Without it `final` and `noexcept` expand to nothing and the compiler may not resolve
    // virtual calls of the decoders and engines at compile time.
    "ZMQ_HAVE_NOEXCEPT",
];

fn main() {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        println!(
            "cargo::error=pinfeed targets Linux: this zmq-sys builds libzmq for no other system"
        );
        return;
    }
    let (Ok(sodium_lib), Ok(sodium_include)) =
        (env::var("DEP_SODIUM_LIB"), env::var("DEP_SODIUM_INCLUDE"))
    else {
        println!(
            "cargo::error=libsodium-sys-stable did not say where its libsodium is: \
             unset SODIUM_LIB_DIR and SODIUM_USE_PKG_CONFIG so that it builds the bundled one"
        );
        return;
    };

    pass_to_compiler();
    zeromq_src::Build::new()
        .with_libsodium(Some(zeromq_src::LibLocation::new(
            sodium_lib,
            sodium_include,
        )))
        // ZMQ_IN_BATCH_SIZE, ZMQ_BUSY_POLL, ZMQ_PRIORITY and zmq_ctx_set_ext exist only with the
        // draft API. It may change between releases, but the release is pinned.
        .enable_draft(true)
        .build();
}

/// Hands [`PLATFORM`], the optimisation and the debug level to the `cc` crate inside `zeromq-src`.
///
/// `zeromq-src` takes no flags, so the environment is the only way in. `cc` joins `CXXFLAGS`,
/// `HOST_CXXFLAGS` or `TARGET_CXXFLAGS`, and `CXXFLAGS_<target>` in this order behind its own
/// flags. What stands in front of `CXXFLAGS` thus overrides `cc`, and everything the user has set
/// overrides it in turn.
fn pass_to_compiler() {
    let mut flags: Vec<String> = PLATFORM.iter().map(|name| format!("-D{name}")).collect();
    // Wherever debug information is wanted, `cc` asks for all of it: 56 MB of archive, and 22 MB of
    // release binary under `debug = "line-tables-only"`. Lines alone take 9 MB and 8 MB.
    if !matches!(env::var("DEBUG").as_deref(), Ok("false" | "none" | "0")) {
        flags.push("-g1".to_owned());
    }
    flags.extend(env::var("CXXFLAGS"));
    // SAFETY: this build script has one thread until `Build::build` starts the compilers.
    unsafe { env::set_var("CXXFLAGS", flags.join(" ")) };

    // A dev profile would leave C++ unoptimised too, and a test would find the library to be the
    // slow part instead of the code under test.
    if matches!(env::var("OPT_LEVEL").as_deref(), Ok("0" | "1")) {
        // SAFETY: as above.
        unsafe { env::set_var("OPT_LEVEL", "3") };
    }
}
