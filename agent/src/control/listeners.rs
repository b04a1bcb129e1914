//! The sockets of the inference API and of `status`: bound here, by control, and kept open across every worker.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use anyhow::{Context, bail};

/// Binds a Unix socket with this mode, in place of one that a dead agent left behind.
///
/// # Errors
/// Where somebody answers there, or the system refuses.
pub(super) fn unix(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        bail!("{} is served by another process: stop it, or choose another path", path.display());
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("clear {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context("the socket's mode")?;
    Ok(listener)
}

/// Binds a loopback address and returns it with its real port.
///
/// # Errors
/// Where it is not loopback, or taken.
pub(super) fn tcp(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    if !address.ip().is_loopback() {
        bail!("infer_tcp is {address}, which other machines can reach; use 127.0.0.1 or [::1]");
    }
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address} (infer_tcp)"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_served_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(unix(&path, 0o660).unwrap());
        let held = unix(&path, 0o660).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(unix(&path, 0o660).unwrap_err().to_string().contains("another process"));
        drop(held);
    }

    #[test]
    fn only_loopback_is_bound() {
        assert!(tcp("0.0.0.0:0".parse().unwrap()).is_err());
        let (_listener, address) = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(address.port(), 0);
    }
}
