//! Non-blocking TCP and Unix sockets.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::net::{Endpoint, Host, endpoint::unix_address};

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 128;

/// What a connection's socket is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// The network card that a TCP socket is tied to, by name.
    pub nic: Option<String>,
    /// The address that a TCP connection is made from.
    pub source: Option<IpAddr>,
    /// The kernel's receive buffer in bytes, 0 for the system's default.
    pub buffer_bytes: u32,
    /// How long a receive call may poll the network card for, in microseconds, 0 for the system's
    /// default.
    pub busy_poll_us: u32,
    /// Whether small writes over TCP are sent at once, rather than with those that follow.
    pub no_delay: bool,
    /// How long what was sent over TCP may stay unacknowledged before the peer is taken for dead.
    pub user_timeout: Option<Duration>,
    /// After how long a silence the kernel asks over TCP whether the peer's host is there, and how often
    /// then. It gives up after `user_timeout`.
    pub keepalive: Option<Duration>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nic: None,
            source: None,
            buffer_bytes: 0,
            busy_poll_us: 0,
            no_delay: true,
            user_timeout: None,
            keepalive: None,
        }
    }
}

impl SocketOptions {
    /// Finds out whether the kernel grants the options, by setting them on a socket.
    ///
    /// # Errors
    /// The kernel's, for instance that polling the card takes `CAP_NET_ADMIN`.
    pub fn probe(&self) -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into();
        self.settle(&self.open(&address)?, true)
    }

    fn open(&self, address: &SockAddr) -> io::Result<Socket> {
        let socket = Socket::new(address.domain(), Type::STREAM.cloexec().nonblocking(), None)?;
        // Before connecting or listening: the window that TCP offers follows from it.
        if self.buffer_bytes > 0 {
            socket.set_recv_buffer_size(self.buffer_bytes as usize)?;
        }
        if self.busy_poll_us > 0 {
            socket.set_busy_poll(self.busy_poll_us)?;
        }
        if let (Some(nic), true) = (&self.nic, is_tcp(address)) {
            socket.bind_device(Some(nic.as_bytes()))?;
        }
        Ok(socket)
    }

    /// Sets what a connection has and a listening socket has not.
    fn settle(&self, socket: &Socket, tcp: bool) -> io::Result<()> {
        if tcp {
            socket.set_tcp_nodelay(self.no_delay)?;
            socket.set_tcp_user_timeout(self.user_timeout)?;
            if let Some(every) = self.keepalive {
                // The kernel counts whole seconds.
                let every = every.max(Duration::from_secs(1));
                let keepalive = TcpKeepalive::new().with_time(every).with_interval(every);
                socket.set_tcp_keepalive(&keepalive)?;
            }
        }
        Ok(())
    }
}

fn is_tcp(address: &SockAddr) -> bool {
    address.domain() != Domain::UNIX
}

/// Starts to connect. The connection is made, or has failed, when the socket becomes writable; its
/// error says which.
///
/// # Errors
/// What the kernel refuses at once.
pub fn begin_connect(address: &SockAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = options.open(address)?;
    options.settle(&socket, is_tcp(address))?;
    if let (Some(source), true) = (options.source, is_tcp(address)) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(address) {
        Err(refused) if refused.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            Err(refused)
        }
        _ => Ok(socket),
    }
}

/// A socket that peers connect to. A Unix socket's file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    options: SocketOptions,
    endpoint: String,
    tcp: bool,
    path: Option<PathBuf>,
}

impl Listener {
    /// Binds an endpoint. A Unix socket that stands at its path is replaced.
    ///
    /// # Errors
    /// The kernel's, and that a host's name can't be bound.
    pub fn bind(endpoint: &Endpoint, options: &SocketOptions) -> io::Result<Self> {
        let path = match endpoint {
            Endpoint::Tcp {
                host: Host::Name(name),
                ..
            } => {
                return Err(io::Error::other(format!("{name} is not an address")));
            }
            Endpoint::Tcp { .. } => None,
            Endpoint::Ipc { path } if path == "*" => Some(free_path()?),
            Endpoint::Ipc { path } => Some(path.clone()),
        };
        let address = match &path {
            Some(path) => unix_address(path)?,
            None => endpoint.addresses()?.swap_remove(0),
        };
        let socket = options.open(&address)?;
        let path = path
            .filter(|path| !path.starts_with('@'))
            .map(PathBuf::from);
        match &path {
            Some(path) => remove_socket(path)?,
            // A port whose last connections are still fading is free.
            None if is_tcp(&address) => socket.set_reuse_address(true)?,
            None => {}
        }
        if address.domain() == Domain::IPV6 {
            // All addresses are those of both kinds, as with libzmq.
            let all = address
                .as_socket_ipv6()
                .is_some_and(|v6| v6.ip().is_unspecified());
            socket.set_only_v6(!all)?;
        }
        socket.bind(&address)?;
        socket.listen(BACKLOG)?;
        let bound = match (socket.local_addr()?.as_socket(), endpoint, &path) {
            (Some(address), ..) => format!("tcp://{address}"),
            (None, _, Some(path)) => format!("ipc://{}", path.display()),
            // A name outside the file system.
            (None, Endpoint::Ipc { path }, None) => format!("ipc://{path}"),
            (None, Endpoint::Tcp { .. }, None) => {
                return Err(io::Error::other("a TCP socket has no address"));
            }
        };
        Ok(Self {
            tcp: is_tcp(&address),
            socket,
            options: options.clone(),
            endpoint: bound,
            path,
        })
    }

    /// Returns the endpoint, with the port or the path that was chosen.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the socket to wait for.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Takes the next connection, if there is one.
    ///
    /// # Errors
    /// The kernel's: the connection ended meanwhile, or the process has too many files open.
    pub fn accept(&self) -> io::Result<Option<Socket>> {
        match self.socket.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true)?;
                self.options.settle(&socket, self.tcp)?;
                Ok(Some(socket))
            }
            Err(refused) if is_not_ready(&refused) => Ok(None),
            Err(refused) => Err(refused),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Tells whether a call on a non-blocking socket only found nothing to do.
#[must_use]
pub fn is_not_ready(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Tells whether a call failed because the process or the machine has no more files or memory for it.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    let short_of = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| short_of.contains(&errno))
}

/// Removes the Unix socket that a process left at a path, and nothing else.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::other("what stands there is not a socket")),
        Err(refused) if refused.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(refused) => Err(refused),
    }
}

/// Returns a path for a Unix socket where nothing stands.
fn free_path() -> io::Result<String> {
    let folder = std::env::temp_dir();
    let process = std::process::id();
    let mut paths = (0..u32::MAX).map(|n| folder.join(format!("pinfeed-{process}-{n}.ipc")));
    let path = paths.find(|path| !path.exists());
    path.and_then(|path| path.into_os_string().into_string().ok())
        .ok_or_else(|| io::Error::other("the folder for temporary files has no usable name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Deadline,
        net::{Interest, Poller},
    };
    use std::io::{Read, Write};

    fn meet(bind: &str, options: &SocketOptions) -> (Listener, Socket, Socket) {
        let listener = Listener::bind(&bind.parse().unwrap(), options).unwrap();
        let endpoint: Endpoint = listener.endpoint().parse().unwrap();
        let address = endpoint.addresses().unwrap().remove(0);
        let near = begin_connect(&address, options).unwrap();
        let mut poller = Poller::new().unwrap();
        poller.add(listener.socket(), 7, Interest::Read).unwrap();
        let deadline = Deadline::after(Duration::from_secs(10));
        loop {
            assert!(!deadline.passed());
            poller.wait(Some(Duration::from_secs(1))).unwrap();
            if let Some(far) = listener.accept().unwrap() {
                assert_eq!(poller.ready().next().map(|ready| ready.token), Some(7));
                return (listener, near, far);
            }
        }
    }

    #[test]
    fn both_transports_connect_and_carry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("feed");
        let path = format!("ipc://{}", path.display());
        for bind in [
            "tcp://127.0.0.1:*",
            "tcp://[::1]:*",
            "ipc://@pinfeed-test-*",
            "ipc://*",
            &path,
        ] {
            let (listener, mut near, far) = meet(bind, &SocketOptions::default());
            near.write_all(b"hello").unwrap();
            far.set_nonblocking(false).unwrap();
            let mut bytes = [0; 5];
            (&far).read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello", "{}", listener.endpoint());
        }
        assert!(
            !folder.path().join("feed").exists(),
            "the file goes with the socket"
        );
    }

    #[test]
    fn what_is_asked_for_is_set_on_both_sides() {
        for no_delay in [true, false] {
            let options = SocketOptions {
                buffer_bytes: 65_536,
                no_delay,
                user_timeout: Some(Duration::from_secs(3)),
                keepalive: Some(Duration::from_secs(7)),
                ..SocketOptions::default()
            };
            let (_listener, near, far) = meet("tcp://127.0.0.1:*", &options);
            for socket in [near, far] {
                // Linux doubles it, for its own use.
                assert_eq!(socket.recv_buffer_size().unwrap(), 2 * 65_536);
                assert_eq!(socket.tcp_nodelay().unwrap(), no_delay);
                assert_eq!(
                    socket.tcp_user_timeout().unwrap(),
                    Some(Duration::from_secs(3))
                );
                assert!(socket.keepalive().unwrap());
                assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
            }
        }
    }

    #[test]
    fn the_card_is_polled_for_as_long_as_asked_where_that_is_permitted() {
        let options = SocketOptions {
            busy_poll_us: 50,
            ..SocketOptions::default()
        };
        if let Err(refused) = options.probe() {
            println!("SKIPPED: SO_BUSY_POLL: {refused}");
            return;
        }
        let (_listener, near, far) = meet("tcp://127.0.0.1:*", &options);
        let polled = |socket: &Socket| socket.busy_poll().unwrap();
        assert_eq!((polled(&near), polled(&far)), (50, 50));
    }

    #[test]
    fn a_tie_to_a_card_and_a_source_are_kept() {
        let options = SocketOptions {
            nic: Some("lo".to_owned()),
            source: Some([127, 0, 0, 9].into()),
            ..SocketOptions::default()
        };
        let listener = Listener::bind(
            &"tcp://127.0.0.1:*".parse().unwrap(),
            &SocketOptions::default(),
        )
        .unwrap();
        let endpoint: Endpoint = listener.endpoint().parse().unwrap();
        let socket = begin_connect(&endpoint.addresses().unwrap()[0], &options).unwrap();
        assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local.ip(), IpAddr::from([127, 0, 0, 9]));
    }
}
