//! The attacker holds one of the places that a device fetches from beside its server, with a certificate of the fleet: a
//! mirror that answers with errors, other bytes, half an answer, a part nobody asked for, too much, too little at a time, or
//! a way elsewhere. The device must pass it over for the next place and get what was signed from there; what the mirror
//! alone brings must be refused as if the server had brought it.

use std::thread;

use tern_protocol::refusal::RefusalCode::{Fetch, LoadFailed};

use crate::{
    rig::{
        Rig,
        https::{Https, Trick},
        refused,
        repository::{Keys, blob_path, key},
        wait,
    },
    slow_retrieval,
};

#[test]
fn a_mirror_that_lies_is_passed_over() {
    // Nearly all of it is waiting, so three devices wait at once.
    thread::scope(|scope| {
        let parts: [fn(&mut Rig, &Https); 3] = [manifests, models, metadata];
        let all = parts.map(|part| scope.spawn(move || beside_a_mirror(part)));
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

fn beside_a_mirror(part: fn(&mut Rig, &Https)) {
    let mut rig = Rig::with("mirrors", slow_retrieval::CONFIG, &[]);
    let names = ["localhost".to_owned()];
    let any = "127.0.0.1:0".parse().unwrap();
    let tls = rig.authority.https(&names, tern_fleet_server::clock::now()).unwrap();
    let mirror = Https::start(any, tls, Box::new(|_, _, _| None));
    rig.device.configure(&format!("[[sources]]\nurl = \"https://localhost:{}\"\n", mirror.address.port()));
    rig.restart(|_| ());
    part(&mut rig, &mirror);
    assert_eq!(mirror.strangers(), Vec::<String>::new(), "a mirror is asked with the certificate, too");
    rig.finish();
}

fn manifests(rig: &mut Rig, mirror: &Https) {
    content(rig, mirror, "manifest");
}

fn models(rig: &mut Rig, mirror: &Https) {
    content(rig, mirror, "model");
}

/// The mirror is asked first. What it withholds comes from the server, whole: the refusal in the end is that of a model file
/// which is none.
fn content(rig: &mut Rig, mirror: &Https, name: &str) {
    let elsewhere = Trick::Redirect(format!("https://localhost:{}/", mirror.address.port()));
    let tricks = [
        ("404", Trick::Status(404)),
        ("500", Trick::Status(500)),
        ("a redirect", elsewhere),
        ("half of it", Trick::Cut(100)),
        ("other bytes", Trick::Bytes(b"short".to_vec())),
        ("a part that was not asked for", Trick::WrongRange),
        ("an encoding", Trick::Encoded("gzip", vec![0x1f, 0x8b, 8, 0])),
        ("bytes without end", Trick::Endless(None)),
        ("a byte a second", Trick::Trickle),
    ];
    for (what, trick) in tricks {
        // Whoever failed lately is asked last, and a device that starts remembers nobody's failures.
        rig.restart(|_| ());
        let evil = rig.evil();
        let path = if name == "model" { blob_path(&evil.file(name)) } else { evil.manifest_path() };
        let files = rig.publication(&[&evil]).files();
        rig.https.serve(files.clone());
        mirror.serve(files);
        mirror.play(&path, trick);
        rig.https.traffic(&path);
        mirror.traffic(&path);
        let variant = format!("{what} for the {name} by a mirror");
        rig.try_demand(&variant, evil.desired(), refused(LoadFailed, "malformed model"));
        let asked = [mirror.traffic(&path).requests, rig.https.traffic(&path).requests];
        assert_eq!(asked, [1, 1], "{variant}: the mirror, then the server");
    }
}

/// The server is asked first, and does not answer: the mirror may say what was signed, and nothing else. What it said wrong is
/// in the log; the refusal is the server's, after which it is tried again.
fn metadata(rig: &mut Rig, mirror: &Https) {
    let silent = refused(Fetch, "the server answered 503");
    let past = rig.publication(&[]).files();
    let evil = rig.evil();
    let newest = rig.publication(&[&evil]);
    mirror.serve(newest.files());
    rig.https.play(".json", Trick::Status(503));
    rig.try_demand("what was signed, by a mirror alone", evil.desired(), refused(LoadFailed, "malformed model"));
    let theirs = Keys::new();
    for (variant, said) in [
        ("what is older", "rollback"),
        ("what a stranger signed", "role timestamp"),
        ("another root", "role root"),
        ("a redirect", "302"),
        ("half of it", "body"),
    ] {
        let evil = rig.evil();
        let mut publication = rig.publication(&[&evil]);
        match variant {
            "what a stranger signed" => publication.timestamp.signers = vec![key()],
            "another root" => publication.roots.push(theirs.root(rig.next_root())),
            _ => {}
        }
        mirror.serve(if variant == "what is older" { past.clone() } else { publication.files() });
        match variant {
            "a redirect" => mirror.play(".json", Trick::Redirect("https://localhost/".into())),
            "half of it" => mirror.play("timestamp.json", Trick::Cut(100)),
            _ => {}
        }
        rig.try_demand(&format!("{variant}, by a mirror alone"), evil.desired(), silent);
        let address = format!("source=https://localhost:{}", mirror.address.port());
        wait(&format!("{variant} is held against the mirror"), || {
            let log = rig.device.log();
            log.lines().any(|line| line.contains(&address) && line.contains(said)).then_some(())
        });
    }
}
