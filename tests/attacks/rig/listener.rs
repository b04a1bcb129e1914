//! A listener over TLS with a thread for each connection, which the attacker's servers share.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One connection.
pub(super) type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Serves every connection until it `is_over`, which is looked at as each one comes; gives the address.
pub(super) fn accept(
    listen: SocketAddr,
    tls: Arc<ServerConfig>,
    is_over: impl Fn() -> bool + Send + 'static,
    serve: impl Fn(Stream) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(listen).unwrap();
    let (address, serve) = (listener.local_addr().unwrap(), Arc::new(serve));
    thread::spawn(move || {
        for tcp in listener.incoming() {
            if is_over() {
                return;
            }
            let Ok(tcp) = tcp else { continue };
            let (serve, tls) = (serve.clone(), tls.clone());
            thread::spawn(move || serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), tcp)));
        }
    });
    address
}
