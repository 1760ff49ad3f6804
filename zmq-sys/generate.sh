#!/bin/sh
# Writes src/ffi.rs anew from the zmq.h of the libzmq that build.rs compiles.
#
# Needs bindgen (cargo install bindgen-cli), libclang (libclang-dev on Debian), cargo and rustfmt.
# Run it after changing the version of zeromq-src in Cargo.toml, then read the difference.
set -eu
cd "$(dirname "$0")"

manifest=$(cargo metadata --format-version 1 |
    grep -o '"manifest_path":"[^"]*/zeromq-src-[^"]*/Cargo.toml"' | cut -d '"' -f 4)
[ -f "$manifest" ] || { echo "zeromq-src is not among the packages of cargo metadata" >&2; exit 1; }

# Left out: deprecated functions, the utilities beside messaging (timers, threads, atomics), the draft
# poller, and options of transports that are not built in. No derives: a `Copy` of a zmq_msg_t made
# without zmq_msg_copy would free its content twice.
bindgen "${manifest%/Cargo.toml}/vendor/include/zmq.h" \
    --output src/ffi.rs \
    --allowlist-item '(zmq|ZMQ)_.*' \
    --blocklist-item 'zmq_(init|term|ctx_destroy|device|sendmsg|recvmsg|sendiov|recviov)' \
    --blocklist-item 'zmq_(atomic_counter|timers?|stopwatch|poller)_.*|zmq_(sleep|ppoll|thread.*)' \
    --blocklist-item 'ZMQ_(NORM|WSS)_.*|iovec|_*sigset_t' \
    --no-layout-tests --no-doc-comments --no-derive-copy --no-derive-debug \
    --merge-extern-blocks --use-core --rust-edition 2024 --rust-target 1.85 \
    -- -DZMQ_BUILD_DRAFT_API
