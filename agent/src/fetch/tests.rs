//! Fetching from servers on loopback that lie, cut, stall and never end.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

const MODEL: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Answers request after request with the next of these; the last one again and again. Notes each request's range.
#[derive(Clone)]
enum Answer {
    /// These bytes, then the connection is closed.
    Bytes(Vec<u8>),
    /// A head that promises everything, and then a byte now and then.
    Drip,
    /// A head, and then bytes without end.
    Endless,
    /// The range that was asked for, done right.
    Right,
}

struct Server {
    address: SocketAddr,
    ranges: Arc<Mutex<Vec<Option<u64>>>>,
}

impl Server {
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let noted = ranges.clone();
        tokio::spawn(async move {
            for turn in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = answers[turn.min(answers.len() - 1)].clone();
                tokio::spawn(serve(stream, answer, noted.clone()));
            }
        });
        Self { address, ranges }
    }

    fn ranges(&self) -> Vec<Option<u64>> {
        self.ranges.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, ranges: Arc<Mutex<Vec<Option<u64>>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        request.extend(byte);
    }
    let text = String::from_utf8(request).unwrap().to_lowercase();
    let range = text.lines().find_map(|l| l.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    ranges.lock().unwrap().push(range);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MODEL.len());
    let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    // A client that has had enough closes its end: that ends each of these.
    let _ = match answer {
        Answer::Bytes(bytes) => stream.write_all(&bytes).await,
        Answer::Right => stream.write_all(&right(range)).await,
        Answer::Drip => drip(&mut stream, head.as_bytes()).await,
        Answer::Endless => endless(&mut stream, whole.as_bytes()).await,
    };
}

async fn drip(stream: &mut TcpStream, head: &[u8]) -> std::io::Result<()> {
    stream.write_all(head).await?;
    for byte in MODEL {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(())
}

async fn endless(stream: &mut TcpStream, head: &[u8]) -> std::io::Result<()> {
    stream.write_all(head).await?;
    loop {
        stream.write_all(b"10\r\n0123456789abcdef\r\n").await?;
    }
}

fn right(range: Option<u64>) -> Vec<u8> {
    let from = range.unwrap_or(0) as usize;
    let (length, last) = (MODEL.len(), MODEL.len() - 1);
    let head = match range {
        None => format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"),
        Some(_) => format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{last}/{length}\r\ncontent-length: {}\r\n\r\n",
            length - from
        ),
    };
    [head.as_bytes(), &MODEL[from..]].concat()
}

fn rules() -> Rules {
    Rules {
        pace: Pace { idle: Duration::from_secs(5), window: Duration::from_millis(150), window_bytes: 1000 },
        attempts: 3,
        pause: Duration::from_millis(1),
    }
}

fn only(server: &Server) -> Sources<Remote> {
    Sources::only("server", Remote::plain(server.address))
}

struct Attempt {
    outcome: Result<(), FetchError>,
    ranges: Vec<Option<u64>>,
    blobs: Blobs,
    sources: Sources<Remote>,
    _folder: tempfile::TempDir,
}

impl Attempt {
    fn code(self) -> RefusalCode {
        Refusal::from(self.outcome.unwrap_err()).code
    }

    fn is_there(&self) -> bool {
        self.blobs.open_verified(&Digest::of(MODEL), MODEL.len() as u64).is_ok()
    }
}

async fn attempt(answers: Vec<Answer>, on_disk: &[u8]) -> Attempt {
    let server = Server::start(answers).await;
    let done = attempt_from(only(&server), on_disk).await;
    Attempt { ranges: server.ranges(), ..done }
}

async fn attempt_from(sources: Sources<Remote>, on_disk: &[u8]) -> Attempt {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let (digest, length) = (Digest::of(MODEL), MODEL.len() as u64);
    if !on_disk.is_empty() {
        blobs.resume(&digest, length).unwrap().append(on_disk).unwrap();
    }
    let outcome = blob(&sources, &blobs, &digest, length, &rules()).await;
    Attempt { outcome, ranges: Vec::new(), blobs, sources, _folder: folder }
}

fn bytes(text: &str) -> Answer {
    Answer::Bytes(text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_blob_comes_whole_and_is_asked_for_once() {
    let done = attempt(vec![Answer::Right], b"").await;
    assert!(done.outcome.is_ok() && done.is_there());
    assert_eq!(done.ranges, [None]);
}

#[tokio::test]
async fn a_part_on_disk_is_gone_on_from() {
    let done = attempt(vec![Answer::Right], &MODEL[..10]).await;
    assert!(done.outcome.is_ok() && done.is_there());
    assert_eq!(done.ranges, [Some(10)]);
}

#[tokio::test]
async fn a_cut_answer_is_resumed_where_it_was_cut() {
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n0123456789", MODEL.len());
    let done = attempt(vec![bytes(&cut), Answer::Right], b"").await;
    assert!(done.outcome.is_ok() && done.is_there());
    assert_eq!(done.ranges, [None, Some(10)]);
}

#[tokio::test]
async fn a_server_without_ranges_starts_anew() {
    let whole = [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MODEL.len()).as_bytes(), MODEL].concat();
    let done = attempt(vec![Answer::Bytes(whole)], &MODEL[..10]).await;
    assert!(done.outcome.is_ok() && done.is_there());
}

#[tokio::test]
async fn a_torn_part_is_noticed_at_the_end_and_fetched_anew() {
    let torn = attempt(vec![Answer::Right], &[0; 10]).await;
    assert!(torn.outcome.is_ok() && torn.is_there(), "{:?}", torn.outcome);
    assert_eq!(torn.ranges, [Some(10), None]);
    assert_eq!(torn.sources.pages()[0].failures, 0);
}

#[tokio::test]
async fn whatever_one_source_does_another_one_brings_the_blob() {
    let length = MODEL.len();
    let mut flipped = MODEL.to_vec();
    flipped[7] ^= 1;
    let evils = [
        ("404", bytes("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")),
        ("500", bytes("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")),
        ("redirect", bytes("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")),
        ("encoded", bytes("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}")),
        ("closed", bytes("")),
        ("cut", bytes(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n0123456789"))),
        ("a lie, cut", bytes(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nxxxxxxxxxx"))),
        (
            "flipped",
            Answer::Bytes(
                [format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes(), &flipped].concat(),
            ),
        ),
        ("longer", bytes("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n0123")),
        ("wrong range", bytes("HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 3-35/36\r\n\r\nxxx")),
        ("slow", Answer::Drip),
        ("endless", Answer::Endless),
    ];
    for (name, evil) in evils {
        let (bad, good) = (Server::start(vec![evil]).await, Server::start(vec![Answer::Right]).await);
        let sources = Sources::of([("bad", Remote::plain(bad.address)), ("good", Remote::plain(good.address))]);
        let done = attempt_from(sources.clone(), b"").await;
        assert!(done.outcome.is_ok() && done.is_there(), "{name}: {:?}", done.outcome);
        let failures: Vec<_> = sources.pages().iter().map(|page| (page.failures, page.passed_over)).collect();
        assert_eq!(failures, [(1, true), (0, false)], "{name}");
        assert_eq!(bad.ranges(), [None], "{name}: asked once");
        // The next blob is asked of the good one at once.
        let asked = bad.ranges().len();
        let again = attempt_from(sources, b"").await;
        assert!(again.outcome.is_ok() && bad.ranges().len() == asked, "{name}");
    }
}

#[tokio::test]
async fn where_all_sources_fail_one_that_may_pass_is_what_counts() {
    let lacking = bytes("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let ill = bytes("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let (first, second) = (Server::start(vec![lacking]).await, Server::start(vec![ill]).await);
    let sources = Sources::of([("first", Remote::plain(first.address)), ("second", Remote::plain(second.address))]);
    let done = attempt_from(sources, b"").await;
    assert_eq!((first.ranges().len(), second.ranges().len()), (3, 3), "rounds over all of them");
    let error = done.outcome.unwrap_err();
    assert!(matches!(&error, FetchError::Http { cause: HttpError::Status { status: 503, .. }, .. }), "{error}");
    assert!(Refusal::from(error).code.is_retryable());
}

#[tokio::test]
async fn one_flipped_byte_is_refused() {
    let mut flipped = MODEL.to_vec();
    flipped[7] ^= 1;
    let whole = [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MODEL.len()).as_bytes(), &flipped].concat();
    let done = attempt(vec![Answer::Bytes(whole)], b"").await;
    assert!(!done.is_there());
    assert_eq!(done.code(), RefusalCode::BlobDigest);
}

#[tokio::test]
async fn an_endless_answer_is_left_at_the_signed_length() {
    let done = attempt(vec![Answer::Endless], b"").await;
    assert!(matches!(&done.outcome, Err(FetchError::Blob(BlobError::Length { .. }))), "{:?}", done.outcome);
    assert_eq!(done.blobs.total_bytes().unwrap(), 0);
    assert_eq!(done.code(), RefusalCode::BlobLength);
}

#[tokio::test]
async fn another_length_is_refused_before_a_byte_is_written() {
    let done = attempt(vec![bytes("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n0123")], b"").await;
    assert_eq!(done.code(), RefusalCode::BlobLength);
}

#[tokio::test]
async fn another_range_than_asked_for_is_not_written() {
    let wrong = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 3-35/36\r\ncontent-length: 33\r\n\r\nxxx";
    let done = attempt(vec![bytes(wrong), Answer::Right], &MODEL[..10]).await;
    assert!(done.outcome.is_ok() && done.is_there(), "{:?}", done.outcome);
    assert_eq!(done.ranges, [Some(10), None]);
    let done = attempt(vec![bytes(wrong)], &MODEL[..10]).await;
    assert!(matches!(&done.outcome, Err(FetchError::WrongRange { .. })), "{:?}", done.outcome);
    assert_eq!(done.code(), RefusalCode::Fetch);
}

#[tokio::test]
async fn a_source_that_cannot_go_on_undoes_nothing_that_another_brought() {
    let cut = |from: usize, to: usize| {
        let whole = right((from > 0).then_some(from as u64));
        whole[..whole.len() - (MODEL.len() - to)].to_vec()
    };
    let cutting = Server::start(vec![Answer::Bytes(cut(0, 12)), Answer::Bytes(cut(12, 24)), Answer::Right]).await;
    let unable = Server::start(vec![bytes("HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n")]).await;
    let sources = Sources::of([("cutting", Remote::plain(cutting.address)), ("unable", Remote::plain(unable.address))]);
    let done = attempt_from(sources, b"").await;
    assert!(done.outcome.is_ok() && done.is_there(), "{:?}", done.outcome);
    assert_eq!((cutting.ranges(), unable.ranges()), (vec![None, Some(12), Some(24)], vec![Some(12), Some(24)]));
}

#[tokio::test]
async fn not_found_is_said_at_once_and_an_ill_server_is_asked_again() {
    let done = attempt(vec![bytes("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")], b"").await;
    assert_eq!(done.ranges.len(), 1);
    assert_eq!(done.code(), RefusalCode::Fetch);
    let ill = bytes("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n");
    let done = attempt(vec![ill.clone()], b"").await;
    assert_eq!(done.ranges.len(), 3);
    let done = attempt(vec![ill, Answer::Right], b"").await;
    assert!(done.is_there());
}

#[tokio::test]
async fn a_crawling_source_is_left() {
    let done = attempt(vec![Answer::Drip], b"").await;
    assert!(matches!(&done.outcome, Err(FetchError::Slow(_))), "{:?}", done.outcome);
}

#[tokio::test]
async fn what_is_there_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    let (digest, length) = (Digest::of(MODEL), MODEL.len() as u64);
    let mut part = blobs.resume(&digest, length).unwrap();
    part.append(MODEL).unwrap();
    part.finish().unwrap();
    let server = Server::start(vec![Answer::Right]).await;
    blob(&only(&server), &blobs, &digest, length, &rules()).await.unwrap();
    assert!(server.ranges().is_empty());
}
