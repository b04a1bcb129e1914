//! A cable between a device and its server that a story can pull out: a forwarder of TCP on loopback.
//!
//! While it is out, connections break off and new ones are closed at once, as behind a router that lost its uplink. It
//! knows nothing of what it carries.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A forwarder to one address.
pub struct Cable {
    /// Where to connect instead.
    pub address: SocketAddr,
    plugged: Arc<watch::Sender<bool>>,
    listening: JoinHandle<()>,
}

impl Cable {
    /// A cable to `target`, plugged in.
    ///
    /// # Errors
    /// Where there is no free port.
    pub async fn new(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("finding a port for a cable")?;
        let address = listener.local_addr().context("asking for a cable's port")?;
        let plugged = Arc::new(watch::Sender::new(true));
        let listening = tokio::spawn(listen(listener, target, plugged.clone()));
        Ok(Self { address, plugged, listening })
    }

    /// Pulls it out, or plugs it in again.
    pub fn plug(&self, is_in: bool) {
        self.plugged.send_replace(is_in);
    }

    /// Breaks every connection off once; new ones are let through.
    pub fn shake(&self) {
        self.plug(false);
        self.plug(true);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.plug(false);
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, target: SocketAddr, plugged: Arc<watch::Sender<bool>>) {
    while let Ok((near, _)) = listener.accept().await {
        let mut state = plugged.subscribe();
        // Also where it was out: dropping the stream closes it.
        if *state.borrow_and_update() {
            tokio::spawn(carry(near, target, state));
        }
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, mut state: watch::Receiver<bool>) {
    let through = async {
        let Ok(mut far) = TcpStream::connect(target).await else { return };
        // Whatever ends it, both sides are closed by the drop.
        let _ = copy_bidirectional(&mut near, &mut far).await;
    };
    tokio::select! {
        () = through => {}
        // Any change since the connection began breaks it off, even if the cable is in again.
        _ = state.changed() => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_pulled_cable_breaks_what_it_carries_and_lets_nothing_through() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let cable = Cable::new(target).await.unwrap();
        let mut answer = [0; 4];
        let mut client = TcpStream::connect(cable.address).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
        cable.plug(false);
        assert!(matches!(client.read(&mut answer).await, Ok(0) | Err(_)));
        let mut refused = TcpStream::connect(cable.address).await.unwrap();
        assert!(matches!(refused.read(&mut answer).await, Ok(0) | Err(_)));
        cable.plug(true);
        let mut client = TcpStream::connect(cable.address).await.unwrap();
        client.write_all(b"pong").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        cable.shake();
        assert!(matches!(client.read(&mut answer).await, Ok(0) | Err(_)));
    }
}
