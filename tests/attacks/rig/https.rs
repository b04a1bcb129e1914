//! The attacker's HTTPS: the files of a repository, a trick for any path, and a count of what was asked and sent.
//!
//! A thread per connection and HTTP/1.1 by hand, so that nothing keeps an answer from being wrong.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;

use super::{
    listener::{Stream, accept},
    repository::Files,
};

/// What is done to a request instead of answering it well.
#[derive(Debug, Clone)]
pub(crate) enum Trick {
    /// This status, and nothing else.
    Status(u16),
    /// To another place.
    Redirect(String),
    /// These bytes instead.
    Bytes(Vec<u8>),
    /// The length of all, so many bytes, and the end of the connection.
    Cut(usize),
    /// Bytes without end, under a promised length or none.
    Endless(Option<u64>),
    /// All of it, or of something else where there is nothing: a byte a second.
    Trickle,
    /// A part that was not asked for.
    WrongRange,
    /// These bytes, which claim to be the file in this encoding.
    Encoded(&'static str, Vec<u8>),
    /// The bytes under another length.
    Length(u64),
}

/// What went over one path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
}

/// Answers requests that need more than a file: method, path and body; none where a file is meant.
pub(crate) type Desk = Box<dyn Fn(&str, &str, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

#[derive(Default)]
struct State {
    files: Mutex<Files>,
    tricks: Mutex<Vec<(String, Trick)>>,
    traffic: Mutex<BTreeMap<String, Traffic>>,
    strangers: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// The listener; it ends with the value.
pub(crate) struct Https {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Https {
    pub(crate) fn start(listen: SocketAddr, tls: Arc<ServerConfig>, desk: Desk) -> Self {
        let state = Arc::<State>::default();
        let (stop, serving) = (state.clone(), state.clone());
        let is_over = move || stop.stop.load(Ordering::Relaxed);
        // Whoever leaves has left.
        let address =
            accept(listen, tls, is_over, move |mut stream| while serve(&mut stream, &serving, &desk).is_some() {});
        Self { address, state }
    }

    /// Serves these files from now on, and without tricks.
    pub(crate) fn serve(&self, files: Files) {
        *self.state.files.lock().unwrap() = files;
        self.state.tricks.lock().unwrap().clear();
    }

    /// From now on `trick` is played on every path that ends so.
    pub(crate) fn play(&self, path: &str, trick: Trick) {
        self.state.tricks.lock().unwrap().insert(0, (path.to_owned(), trick));
    }

    /// What went over paths that end so since the last look.
    pub(crate) fn traffic(&self, path: &str) -> Traffic {
        let mut traffic = self.state.traffic.lock().unwrap();
        let paths: Vec<_> = traffic.keys().filter(|key| key.ends_with(path)).cloned().collect();
        let taken = paths.iter().filter_map(|path| traffic.remove(path));
        taken.fold(Traffic::default(), |sum, one| Traffic {
            requests: sum.requests + one.requests,
            bytes: sum.bytes + one.bytes,
        })
    }

    /// Paths of device routes that were asked for without a client certificate.
    pub(crate) fn strangers(&self) -> Vec<String> {
        self.state.strangers.lock().unwrap().clone()
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        // Wakes the listener; it fails only where that is gone.
        let _ = TcpStream::connect(self.address);
    }
}

struct Request {
    method: String,
    path: String,
    from: usize,
    body: Vec<u8>,
}

fn read_request(stream: &mut Stream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let mut pairs = lines.iter().filter_map(|line| line.split_once(':'));
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let mut words = lines.first()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let range = header("range").and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let mut body = vec![0; header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, from: range.unwrap_or(0), body })
}

/// One request and its answer; nothing where the connection is over.
fn serve(stream: &mut Stream, state: &State, desk: &Desk) -> Option<()> {
    let request = read_request(stream)?;
    let path = request.path.clone();
    let count = |bytes: u64| {
        let mut traffic = state.traffic.lock().unwrap();
        traffic.entry(path.clone()).or_default().bytes += bytes;
    };
    state.traffic.lock().unwrap().entry(path.clone()).or_default().requests += 1;
    if let Some(answer) = desk(&request.method, &path, &request.body) {
        return send(stream, "201 Created", &[], answer.len() as u64, &answer);
    }
    if stream.conn.peer_certificates().is_none() {
        state.strangers.lock().unwrap().push(path.clone());
    }
    let trick =
        state.tricks.lock().unwrap().iter().find(|(end, _)| path.ends_with(end)).map(|(_, trick)| trick.clone());
    let file = state.files.lock().unwrap().get(&path).cloned();
    match trick {
        Some(trick) => play(stream, state, &trick, file.unwrap_or_default(), &count),
        None => match file {
            None => send(stream, "404 Not Found", &[], 0, b""),
            Some(bytes) => {
                count((bytes.len() - request.from.min(bytes.len())) as u64);
                honest(stream, &bytes, request.from)
            }
        },
    }
}

fn honest(stream: &mut Stream, bytes: &[u8], from: usize) -> Option<()> {
    if from == 0 || from >= bytes.len() {
        return send(stream, "200 OK", &[], bytes.len() as u64, bytes);
    }
    let range = format!("content-range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    send(stream, "206 Partial Content", &[&range], (bytes.len() - from) as u64, &bytes[from..])
}

fn send(stream: &mut Stream, status: &str, headers: &[&str], length: u64, body: &[u8]) -> Option<()> {
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n");
    headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
    head.push_str("\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    stream.flush().ok()
}

fn play(stream: &mut Stream, state: &State, trick: &Trick, file: Vec<u8>, count: &dyn Fn(u64)) -> Option<()> {
    let whole = file.len() as u64;
    match trick {
        Trick::Status(status) => send(stream, &format!("{status} No"), &[], 0, b""),
        Trick::Redirect(to) => send(stream, "302 Found", &[&format!("location: {to}")], 0, b""),
        Trick::Bytes(bytes) => {
            count(bytes.len() as u64);
            send(stream, "200 OK", &[], bytes.len() as u64, bytes)
        }
        Trick::Length(length) => {
            count(whole);
            send(stream, "200 OK", &[], *length, &file)
        }
        Trick::Encoded(encoding, bytes) => {
            count(bytes.len() as u64);
            let header = format!("content-encoding: {encoding}");
            send(stream, "200 OK", &[&header], bytes.len() as u64, bytes)
        }
        Trick::WrongRange => {
            let range = format!("content-range: bytes 1-{}/{}", whole.max(1), whole + 1);
            send(stream, "206 Partial Content", &[&range], whole, &file)
        }
        Trick::Cut(after) => {
            let part = &file[..file.len().min(*after)];
            send(stream, "200 OK", &[], whole.max(*after as u64 + 1), part)?;
            count(part.len() as u64);
            None
        }
        Trick::Endless(promised) => endless(stream, state, *promised, count),
        Trick::Trickle => trickle(stream, state, file, count),
    }
}

fn trickle(stream: &mut Stream, state: &State, file: Vec<u8>, count: &dyn Fn(u64)) -> Option<()> {
    let file = if file.is_empty() { vec![b' '; 4096] } else { file };
    send(stream, "200 OK", &[], file.len() as u64, b"")?;
    for byte in file {
        if state.stop.load(Ordering::Relaxed) {
            return None;
        }
        stream.write_all(&[byte]).and_then(|()| stream.flush()).ok()?;
        count(1);
        std::thread::park_timeout(Duration::from_secs(1));
    }
    Some(())
}

fn endless(stream: &mut Stream, state: &State, promised: Option<u64>, count: &dyn Fn(u64)) -> Option<()> {
    let piece = vec![b' '; 16 << 10];
    match promised {
        Some(length) => send(stream, "200 OK", &[], length, b"")?,
        None => stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").ok()?,
    }
    while !state.stop.load(Ordering::Relaxed) {
        if promised.is_none() {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).ok()?;
        }
        stream.write_all(&piece).ok()?;
        if promised.is_none() {
            stream.write_all(b"\r\n").ok()?;
        }
        stream.flush().ok()?;
        count(piece.len() as u64);
    }
    None
}
