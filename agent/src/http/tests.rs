//! Answers of every bad kind, from servers on loopback.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

const LIMIT: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server does after it has read a request.
#[derive(Clone, Copy)]
enum Then {
    /// It closes the connection.
    Close,
    /// It sends this byte by byte, a few each second, without end.
    Crawl,
    /// It sends as fast as it can, without end.
    Flood,
}

struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

async fn server(answer: &'static str, then: Then) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let noted = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer, then, noted.clone()));
        }
    });
    Server { address, requests }
}

async fn serve(mut stream: TcpStream, answer: &'static str, then: Then, noted: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        request.extend(byte);
    }
    noted.lock().unwrap().push(String::from_utf8(request).unwrap().to_lowercase());
    let mut sent = stream.write_all(answer.as_bytes()).await;
    while sent.is_ok() {
        sent = match then {
            Then::Close => return,
            Then::Flood => stream.write_all(&[b'x'; 4096]).await,
            Then::Crawl => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                stream.write_all(b"x").await
            }
        };
    }
}

/// What a client with a short breath makes of it.
async fn asked(answer: &'static str, then: Then) -> (Result<Option<Vec<u8>>, HttpError>, Vec<String>) {
    let server = server(answer, then).await;
    let pace = Pace { idle: PATIENCE, window: Duration::from_millis(100), window_bytes: 500 };
    let outcome = Remote::plain(server.address).get_at("/a", LIMIT, PATIENCE, pace).await;
    let requests = server.requests.lock().unwrap().clone();
    (outcome, requests)
}

#[tokio::test]
async fn an_answer_is_asked_for_as_it_is() {
    let (outcome, requests) = asked("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Then::Close).await;
    assert_eq!(outcome.unwrap().unwrap(), b"{}");
    assert!(requests[0].contains("\r\naccept-encoding: identity\r\n"), "{requests:?}");
    let named = "HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(asked(named, Then::Close).await.0.unwrap().unwrap(), b"{}");
    assert_eq!(asked("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Then::Close).await.0, Ok(None));
}

#[tokio::test]
async fn a_role_at_a_few_bytes_a_second_is_too_slow() {
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
        let (outcome, _) = asked(head, Then::Crawl).await;
        assert!(matches!(outcome, Err(HttpError::TooSlow(_))), "{outcome:?}");
        assert!(outcome.unwrap_err().to_string().starts_with("too slow"));
    }
    // A refusal that crawls ends as well, without its reason.
    let (outcome, _) = asked("HTTP/1.1 500 Internal Server Error\r\n\r\n", Then::Flood).await;
    assert!(matches!(outcome, Err(HttpError::Status { status: 500, code: None, .. })), "{outcome:?}");
}

#[test]
fn metadata_is_given_up_well_before_a_minute() {
    let pace = Pace::default();
    assert!(pace.idle + pace.window < Duration::from_secs(60));
    assert!(pace.window_bytes > pace.window.as_secs());
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_its_limit() {
    let (outcome, _) = asked("HTTP/1.1 200 OK\r\n\r\n", Then::Flood).await;
    assert_eq!(outcome, Err(HttpError::TooLong(LIMIT)));
    // What is promised to be too long is not read at all: nothing ever comes of it here.
    let (outcome, _) = asked("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", Then::Crawl).await;
    assert_eq!(outcome, Err(HttpError::TooLong(LIMIT)));
}

#[tokio::test]
async fn a_body_shorter_than_promised_is_no_answer() {
    let (outcome, _) = asked("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}", Then::Close).await;
    assert!(matches!(outcome, Err(HttpError::Unreachable(_))), "{outcome:?}");
}

#[tokio::test]
async fn two_lengths_are_no_answer() {
    let (outcome, _) = asked("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}}", Then::Close).await;
    assert!(matches!(outcome, Err(HttpError::Unreachable(_))), "{outcome:?}");
}

#[tokio::test]
async fn an_encoded_body_is_refused_and_never_unfolded() {
    for encoding in ["gzip", "zstd", "identity, gzip"] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: 2\r\n\r\n{{}}");
        let (outcome, _) = asked(head.leak(), Then::Close).await;
        assert_eq!(outcome, Err(HttpError::Encoded(encoding.into())));
    }
}

#[tokio::test]
async fn a_redirect_is_a_refusal_and_nobody_else_is_asked() {
    let elsewhere = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Then::Close).await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let address = elsewhere.address;
        let head = format!("HTTP/1.1 {status}\r\nlocation: http://{address}/a\r\ncontent-length: 0\r\n\r\n");
        let (outcome, _) = asked(head.leak(), Then::Close).await;
        let Err(HttpError::Status { status: found, detail, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(status.starts_with(&found.to_string()) && detail.contains("redirects are never followed"), "{detail}");
    }
    assert!(elsewhere.requests.lock().unwrap().is_empty());
}

#[test]
fn only_tls_is_an_address_for_the_daemon() {
    let clock = crate::clock::DeviceClock::new(jiff::Timestamp::UNIX_EPOCH);
    let nobody = crate::tls::Authority::Pin(tern_protocol::digest::Digest::of(b""), Default::default());
    let config = crate::tls::client_config(nobody, None, clock).unwrap();
    for base in ["http://fleet.example", "fleet.example:8443", "https://", "ftp://fleet.example"] {
        let refused = Remote::new(base, &config).err();
        assert_eq!(refused, Some(HttpError::BadAddress(base.into())));
    }
    assert!(Remote::new("https://fleet.example:8443", &config).is_ok());
    assert!(Remote::without_tls("https://fleet.example:8443").is_err());
}

#[test]
fn names_become_addresses_and_file_names() {
    assert_eq!(encoded("a b/ü?", b"/"), "a%20b/%C3%BC%3F");
    assert_eq!(encoded("../x", b""), "..%2Fx");
}
