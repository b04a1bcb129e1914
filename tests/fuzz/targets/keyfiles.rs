//! Files of signing keys: as text, and what is inside an encrypted one.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use tern_fleet_server::keyfile::{self, Passphrase};

use crate::{
    corpus::put,
    target::{Target, Verdict},
};

const PHRASE: &str = "correct horse";
const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// A file that is a key, or what its PEM holds.
pub(super) struct KeyFiles {
    is_text: bool,
    path: PathBuf,
    again: PathBuf,
    phrase: Passphrase,
    _scratch: tempfile::TempDir,
}

impl KeyFiles {
    pub(super) fn new(is_text: bool) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let [path, again] = ["a.key", "b.key"].map(|name| scratch.path().join(name));
        put(&path, b"");
        // What others may read is refused before it is looked at.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file is ours");
        let phrase = Passphrase::new(PHRASE.to_owned().into()).expect("a passphrase");
        Self { is_text, path, again, phrase, _scratch: scratch }
    }
}

/// Keys of openssl's making.
fn openssl(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fleet-server/src/keyfile/openssl");
    fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn inside(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64_STANDARD.decode(body).expect("base64")
}

impl Target for KeyFiles {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let [plain, pbkdf2, scrypt] = ["plain.pem", "pbkdf2.pem", "scrypt.pem"].map(openssl);
        if !self.is_text {
            return vec![("pbkdf2.der".into(), inside(&pbkdf2)), ("scrypt.der".into(), inside(&scrypt))];
        }
        let hex: String = inside(&plain).iter().map(|byte| format!("{byte:02x}")).collect();
        vec![
            ("hex.key".into(), hex.into()),
            ("plain.pem".into(), plain.into()),
            ("pbkdf2.pem".into(), pbkdf2.into()),
            ("refused-empty.key".into(), Vec::new()),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        if self.is_text {
            put(&self.path, input);
        } else {
            let body = BASE64_STANDARD.encode(input);
            let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            let lines = lines.join("\n");
            put(&self.path, format!("-----BEGIN {LABEL}-----\n{lines}\n-----END {LABEL}-----\n").as_bytes());
        }
        let key = match keyfile::open(&self.path, || Ok(self.phrase.clone())) {
            Ok(key) => key,
            Err(error) => {
                assert!(!format!("{error:?} {error}").contains(PHRASE), "a passphrase is not printed");
                assert!(keyfile::read(&self.path).is_err(), "the server reads no more than people do");
                return Verdict::Refused;
            }
        };
        let is_encrypted = keyfile::is_encrypted(&self.path).expect("it was opened");
        assert_eq!(keyfile::read(&self.path).is_err(), is_encrypted, "the server's own keys are plain");
        assert!(key.public().verifies(b"message", &key.sign(b"message")), "a key fits its own half");
        keyfile::write(&self.again, &key, None).expect("a key can be written");
        assert_eq!(keyfile::read(&self.again).expect("and be read again").public(), key.public());
        Verdict::Accepted
    }
}
