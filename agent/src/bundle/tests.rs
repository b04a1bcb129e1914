//! Versions that share a blob, fetched at once and collected meanwhile; probes that nobody waits for any more.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;
use sigstore_tuf::Repository;
use tern_protocol::{
    contract::{Contract, DataType, TensorContract},
    keys::SigningKey,
    manifest::{File as ManifestFile, FileRole, Tolerance},
    signed::sign_value,
    tuf,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
};

use super::*;
use crate::{clock::DeviceClock, state::State, store::Store};

const SHARED: &[u8] = b"a model that two versions share";
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves blobs; each answer stops after its first byte until there is a permit.
struct Server {
    remote: Remote,
    asked: mpsc::Receiver<Digest>,
    permits: Arc<Semaphore>,
}

impl Server {
    async fn start(blobs: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = Remote::plain(listener.local_addr().unwrap());
        let blobs: BTreeMap<Digest, Vec<u8>> = blobs.into_iter().map(|b| (Digest::of(&b), b)).collect();
        let (blobs, permits) = (Arc::new(blobs), Arc::new(Semaphore::new(0)));
        let (sender, asked) = mpsc::channel(64);
        let gate = permits.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, blobs.clone(), sender.clone(), gate.clone()));
            }
        });
        Self { remote, asked, permits }
    }

    async fn asked(&mut self) -> Digest {
        tokio::time::timeout(PATIENCE, self.asked.recv()).await.unwrap().unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    blobs: Arc<BTreeMap<Digest, Vec<u8>>>,
    asked: mpsc::Sender<Digest>,
    gate: Arc<Semaphore>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let text = String::from_utf8(request).unwrap();
    let path = text.split(' ').nth(1).unwrap();
    let digest: Digest = path.rsplit('/').next().unwrap().parse().unwrap();
    let bytes = &blobs[&digest];
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", bytes.len());
    stream.write_all(&[head.as_bytes(), &bytes[..1]].concat()).await.unwrap();
    asked.send(digest).await.unwrap();
    gate.acquire().await.unwrap().forget();
    stream.write_all(&bytes[1..]).await.unwrap();
}

/// A repository that nobody asks: these tests begin after it.
struct Silent;

type Fetched<'a> = Pin<Box<dyn Future<Output = sigstore_tuf::Result<Option<Vec<u8>>>> + Send + 'a>>;

impl Repository for Silent {
    fn fetch_metadata<'a>(&'a self, _: &'a str, _: u64) -> Fetched<'a> {
        Box::pin(async { Ok(None) })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> Fetched<'a> {
        Box::pin(async { Ok(None) })
    }
}

fn trust(state_dir: &Path) -> Trust {
    tuf::install_provider();
    let key = SigningKey::generate().unwrap();
    let (id, role) = (key.public().id(), json!({"keyids": [key.public().id()], "threshold": 1}));
    let root = json!({
        "_type": "root", "spec_version": "1.0.31", "version": 1, "expires": "2099-01-01T00:00:00Z",
        "consistent_snapshot": true, "keys": {id.0: key.public()}, tuf::DIRECTOR: role,
        "roles": {"root": role, "targets": role, "snapshot": role, "timestamp": role},
    });
    let root = sign_value(root, &[&key]).unwrap();
    Store::create(state_dir, &State::new(None, Timestamp::UNIX_EPOCH)).unwrap();
    let clock = DeviceClock::new(Timestamp::UNIX_EPOCH);
    Trust::open(Sources::only("server", Arc::new(Silent)), state_dir, root, Store::open(state_dir), clock).unwrap()
}

/// A device that asks this server.
fn installer(remote: Remote) -> (tempfile::TempDir, Arc<Installer>) {
    let folder = tempfile::tempdir().unwrap();
    let installer = Installer {
        trust: trust(folder.path()),
        sources: Sources::only("server", remote),
        bundles: Bundles::open(folder.path()).unwrap(),
        class: "generic".parse().unwrap(),
        agent: "0.1.0".parse().unwrap(),
        disk_bytes: 1 << 20,
        probe: ProbeLimits::default(),
        programs: SelfExec::current().unwrap(),
        rules: Rules::of_patience(std::time::Duration::from_secs(60)),
        turn: tokio::sync::Mutex::default(),
    };
    (folder, Arc::new(installer))
}

fn nowhere() -> Remote {
    Remote::plain("127.0.0.1:1".parse().unwrap())
}

/// A version whose model is the shared blob and whose golden vectors are its own.
fn version(name: &str) -> (Digest, Manifest, Vec<u8>) {
    let file = |path: &str, role, bytes: &[u8]| ManifestFile {
        path: path.into(),
        role,
        sha256: Digest::of(bytes),
        length: ByteCount(bytes.len() as u64),
    };
    let tensor = |name: &str| TensorContract {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: vec![-1, 4],
        range: None,
        nan: Default::default(),
        features: Vec::new(),
        derive: Vec::new(),
    };
    let manifest = Manifest {
        format: 1,
        model: format!("demo/{name}@1.0.0").parse().unwrap(),
        files: vec![
            file("model.onnx", FileRole::Model, SHARED),
            file("test_data_set_0/input_0.pb", FileRole::Golden, name.as_bytes()),
            file("test_data_set_0/output_0.pb", FileRole::Golden, name.as_bytes()),
        ],
        contract: Contract { inputs: vec![tensor("x")], outputs: vec![tensor("y")], prediction: None },
        budgets: BTreeMap::new(),
        device_classes: Vec::new(),
        minimum_agent: "0.1.0".parse().unwrap(),
        golden_tolerance: Tolerance { absolute: 0.0, relative: 0.0 },
        training: Default::default(),
        parent: None,
    };
    let bytes = manifest.to_bytes().unwrap();
    (Digest::of(&bytes), manifest, bytes)
}

type Bringing = tokio::task::JoinHandle<Result<(), Refusal>>;

fn bring(installer: &Arc<Installer>, name: &'static str) -> Bringing {
    let installer = installer.clone();
    tokio::spawn(async move {
        let (digest, manifest, bytes) = version(name);
        installer.bring(&digest, &manifest, &bytes).await
    })
}

async fn collect(installer: &Arc<Installer>, keep: &[Digest]) {
    let (bundles, keep) = (installer.bundles.clone(), keep.iter().copied().collect());
    tokio::task::spawn_blocking(move || bundles.collect_garbage(&keep)).await.unwrap().unwrap();
}

fn is_whole(installer: &Installer, name: &str) -> bool {
    let (digest, manifest, _) = version(name);
    let whole = |f: &ManifestFile| installer.bundles.blobs.open_verified(&f.sha256, f.length.0).is_ok();
    installer.bundles.manifest(&digest).is_ok() && manifest.files.iter().all(whole)
}

fn contents() -> Vec<Vec<u8>> {
    vec![SHARED.to_vec(), b"cats".to_vec(), b"dogs".to_vec()]
}

#[tokio::test]
async fn two_versions_that_share_a_blob_are_fetched_at_once_and_the_blob_once() {
    let mut server = Server::start(contents()).await;
    let (_folder, installer) = installer(server.remote.clone());
    let both = [bring(&installer, "cats"), bring(&installer, "dogs")];
    let mut asked = vec![server.asked().await];
    server.permits.add_permits(100);
    for one in both {
        tokio::time::timeout(PATIENCE, one).await.unwrap().unwrap().unwrap();
    }
    while let Ok(digest) = server.asked.try_recv() {
        asked.push(digest);
    }
    assert_eq!(asked.iter().filter(|d| **d == Digest::of(SHARED)).count(), 1, "{asked:?}");
    assert!(is_whole(&installer, "cats") && is_whole(&installer, "dogs"));
}

#[tokio::test]
async fn garbage_is_collected_around_a_version_that_is_coming() {
    let mut server = Server::start(contents()).await;
    let (_folder, installer) = installer(server.remote.clone());
    let coming = bring(&installer, "cats");
    assert_eq!(server.asked().await, Digest::of(SHARED));
    installer.bundles.keep(&Digest::of(b"old"), b"old").unwrap();
    // From a record that does not name the version yet.
    collect(&installer, &[]).await;
    assert!(!installer.bundles.path(&Digest::of(b"old")).exists());
    server.permits.add_permits(100);
    tokio::time::timeout(PATIENCE, coming).await.unwrap().unwrap().unwrap();
    assert!(is_whole(&installer, "cats"));
    // The same record, read before the version came and used after: once.
    collect(&installer, &[]).await;
    assert!(is_whole(&installer, "cats"));
    collect(&installer, &[version("cats").0]).await;
    assert!(is_whole(&installer, "cats"));
    collect(&installer, &[]).await;
    assert!(!is_whole(&installer, "cats") && installer.bundles.blobs.total_bytes().unwrap() == 0);
}

#[tokio::test]
async fn what_was_given_up_is_garbage_and_holds_nobody_up() {
    let mut server = Server::start(contents()).await;
    let (_folder, installer) = installer(server.remote.clone());
    let given_up = bring(&installer, "cats");
    assert_eq!(server.asked().await, Digest::of(SHARED));
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    collect(&installer, &[]).await;
    assert_eq!(installer.bundles.blobs.total_bytes().unwrap(), 0);
    server.permits.add_permits(100);
    tokio::time::timeout(PATIENCE, bring(&installer, "dogs")).await.unwrap().unwrap().unwrap();
    assert!(is_whole(&installer, "dogs"));
}

#[tokio::test]
async fn a_version_that_cannot_be_fetched_is_not_called_a_full_disk() {
    let gone = io::Error::from(io::ErrorKind::NotFound);
    for (cause, code) in [
        (gone, RefusalCode::Fetch),
        (io::Error::from_raw_os_error(libc::EIO), RefusalCode::Fetch),
        (io::Error::from_raw_os_error(libc::ENOSPC), RefusalCode::NoSpace),
        (io::Error::from_raw_os_error(libc::EDQUOT), RefusalCode::NoSpace),
    ] {
        assert_eq!(disk_refusal("x", &cause).code, code, "{cause}");
        let blob = FetchError::from(BlobError::Disk { digest: Digest::of(b""), cause });
        assert_eq!(Refusal::from(blob).code, code);
    }
}

#[tokio::test]
async fn a_cancelled_probe_keeps_its_turn_until_it_has_ended() {
    let (_folder, installer) = installer(nowhere());
    let running = Arc::new(AtomicUsize::new(0));
    let (begun, has_begun) = oneshot::channel();
    let (end, may_end) = std::sync::mpsc::sync_channel::<()>(1);
    let (this, count) = (installer.clone(), running.clone());
    let first = tokio::spawn(async move {
        let work = move |_: &Installer| {
            count.fetch_add(1, Ordering::SeqCst);
            begun.send(()).unwrap();
            let ended = may_end.recv_timeout(PATIENCE);
            count.fetch_sub(1, Ordering::SeqCst);
            ended.map_err(|e| Refusal::new(RefusalCode::Other, e))
        };
        this.in_turn(work).await
    });
    has_begun.await.unwrap();
    // One that waits and is given up: it must never begin.
    let (this, count) = (installer.clone(), running.clone());
    let waiting = tokio::spawn(async move {
        let work = move |_: &Installer| {
            count.fetch_add(100, Ordering::SeqCst);
            Ok(())
        };
        this.in_turn(work).await
    });
    tokio::task::yield_now().await;
    waiting.abort();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled() && waiting.await.unwrap_err().is_cancelled());
    assert!(installer.turn.try_lock().is_err());
    let (this, count) = (installer.clone(), running.clone());
    let second = tokio::spawn(async move {
        let work = move |_: &Installer| match count.load(Ordering::SeqCst) {
            0 => Ok(()),
            n => Err(Refusal::new(RefusalCode::Other, n)),
        };
        this.in_turn(work).await
    });
    tokio::task::yield_now().await;
    end.send(()).unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap(), Ok(()));
    assert_eq!(running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_probe_whose_thread_panics_is_refused_and_the_next_has_its_turn() {
    let (_folder, installer) = installer(nowhere());
    let died = installer.in_turn(|_| panic!("as a bug would")).await;
    assert_eq!(died.unwrap_err().code, RefusalCode::ProbeDied);
    assert_eq!(installer.in_turn(|_| Ok(())).await, Ok(()));
}
