//! `ca/bundle.pem`, the CAs by which a device is to know its server: the file as it was fetched, and what is inside one of its
//! certificates; and what the device's folder is like afterwards.

use std::{fs, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tern_agent::identity::Identity;
use tern_protocol::{digest::Digest, tuf};

use super::renewals::{authority, certificate, enrolled, pem};
use crate::target::{Target, Verdict};

/// An enrolled device.
pub(super) struct Authorities {
    is_text: bool,
    identity: Identity,
    folder: PathBuf,
    original: String,
    _scratch: tempfile::TempDir,
}

impl Authorities {
    pub(super) fn new(is_text: bool) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let folder = scratch.path().join("identity");
        let identity = enrolled(&folder);
        Self { is_text, identity, folder, original: authority(2).pem(), _scratch: scratch }
    }

    fn written(&self) -> Vec<u8> {
        fs::read(self.folder.join("ca.pem")).expect("CAs")
    }
}

impl Target for Authorities {
    fn seeds(&mut self) -> Vec<(String, Vec<u8>)> {
        let (old, new) = (authority(2).pem(), authority(3).pem());
        let leaf = certificate("cam-1", 2027, &[]);
        if !self.is_text {
            let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec();
            return vec![("new.der".into(), der(&new)), ("refused-leaf.der".into(), der(&leaf))];
        }
        vec![
            ("one.pem".into(), old.clone().into()),
            ("two.pem".into(), [&*old, &*new].concat().into()),
            ("remarked.pem".into(), format!("the old one\n{old}\nthe new one\r\n{new}").into()),
            ("refused-leaf.pem".into(), [&*old, &*leaf].concat().into()),
            ("refused-many.pem".into(), old.repeat(tuf::MAX_AUTHORITIES + 1).into()),
            ("refused-empty.pem".into(), Vec::new()),
        ]
    }

    fn offer(&mut self, input: &[u8]) -> Verdict {
        let bundle = if self.is_text { input.to_vec() } else { [&*self.original, &*pem(input)].concat().into() };
        if bundle.len() as u64 > tuf::MAX_CA_BUNDLE_BYTES {
            // Nothing as long as that is fetched.
            return Verdict::Refused;
        }
        let (before, known) = (self.written(), self.identity.authorities_sha256());
        let taken = self.identity.replace_authorities(&self.folder, &bundle).is_ok();
        let loaded = Identity::load(&self.folder).expect("the folder can be read").expect("it is an identity");
        loaded.credentials().expect("a restarted agent can connect with it");
        assert_eq!(loaded.authorities(), self.identity.authorities(), "a restart changes nobody's trust");
        assert_eq!(loaded.authorities_sha256(), self.identity.authorities_sha256());
        if !taken {
            assert!(
                self.written() == before && self.identity.authorities_sha256() == known,
                "what was refused left a trace"
            );
            return Verdict::Refused;
        }
        assert_eq!(loaded.authorities_sha256(), Digest::of(&bundle), "it is not asked for again");
        assert!((1..=tuf::MAX_AUTHORITIES).contains(&loaded.authorities().len()));
        let text: String = String::from_utf8_lossy(&bundle).split_whitespace().collect();
        for der in loaded.authorities() {
            // The last group may be written in several ways.
            let inside = BASE64_STANDARD.encode(der);
            assert!(text.contains(&inside[..inside.len().saturating_sub(4)]), "a CA that is not in the bundle");
        }
        let original = self.original.clone();
        self.identity.replace_authorities(&self.folder, original.as_bytes()).expect("the first ones still fit");
        Verdict::Accepted
    }
}
