//! The attacker sits between the device and an honest server, with the server's own certificate. He answers with errors,
//! other bytes, half an answer, a part nobody asked for, a lie about the length, an encoding, or a way elsewhere. Nothing
//! of it may be installed, and no other place may be asked.

use std::thread;

use tern_protocol::refusal::RefusalCode::{BlobLength, Fetch, ManifestDigest, Metadata};

use crate::rig::{
    Expected, Rig,
    https::{Https, Trick},
    refused,
    repository::blob_path,
};

#[test]
fn a_mirror_that_lies_is_refused() {
    let part = |attack: fn(&mut Rig, &str)| {
        let mut rig = Rig::new("malicious_mirror");
        without_redirects(&mut rig, attack);
        rig.finish();
    };
    // Nearly all of it is waiting for the next attempt of a device.
    thread::scope(|scope| {
        let all = [metadata, content].map(|attack| scope.spawn(move || part(attack)));
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

pub(crate) fn tried(rig: &mut Rig) {
    without_redirects(rig, metadata);
    without_redirects(rig, content);
}

/// Where a redirect would lead is never asked.
fn without_redirects(rig: &mut Rig, attack: fn(&mut Rig, &str)) {
    let elsewhere = Https::start(
        "127.0.0.1:0".parse().unwrap(),
        rig.authority.https(&["localhost".to_owned()], tern_fleet_server::clock::now()).unwrap(),
        Box::new(|_, _, _| None),
    );
    attack(rig, &format!("https://localhost:{}/", elsewhere.address.port()));
    assert_eq!(elsewhere.traffic("").requests, 0, "no redirect is followed");
}

/// An evil version is listed; `trick` is played on paths that end so.
fn trick(
    rig: &mut Rig,
    variant: &str,
    on: impl Fn(&crate::rig::release::Release) -> String,
    trick: Trick,
    expected: Expected,
) {
    let evil = rig.evil();
    let files = rig.publication(&[&evil]).files();
    rig.https.serve(files);
    rig.https.play(&on(&evil), trick);
    rig.try_demand(variant, evil.desired(), expected);
}

fn metadata(rig: &mut Rig, there: &str) {
    for file in ["timestamp.json", "snapshot.json", "targets.json", "demo.json"] {
        let on = |_: &_| file.to_owned();
        let mut play =
            |what: &str, with: Trick, expected| trick(rig, &format!("{what} for {file}"), on, with, expected);
        play("404", Trick::Status(404), refused(Fetch, ""));
        play("500", Trick::Status(500), refused(Fetch, "the server answered 500"));
        play("a redirect", Trick::Redirect(format!("{there}{file}")), refused(Fetch, "the server answered 302"));
        play("half an answer", Trick::Cut(100), refused(Fetch, ""));
        play("other bytes", Trick::Bytes(b"{}".to_vec()), refused(Metadata, ""));
        play("an encoding", Trick::Encoded("gzip", vec![0x1f, 0x8b, 8, 0]), refused(Fetch, "is encoded as"));
        play("a part", Trick::WrongRange, refused(Fetch, "the server answered 206"));
    }
}

fn content(rig: &mut Rig, there: &str) {
    let manifest = |evil: &crate::rig::release::Release| evil.manifest_path();
    trick(rig, "404 for the manifest", manifest, Trick::Status(404), refused(Fetch, "is not there"));
    trick(rig, "500 for the manifest", manifest, Trick::Status(500), refused(Fetch, "the server answered 500"));
    trick(rig, "other bytes for the manifest", manifest, Trick::Bytes(b"{}".to_vec()), refused(ManifestDigest, ""));
    trick(rig, "half a manifest", manifest, Trick::Cut(100), refused(Fetch, ""));
    let redirect = || Trick::Redirect(format!("{there}blob"));
    trick(rig, "a redirect for the manifest", manifest, redirect(), refused(Fetch, "the server answered 302"));
    let model = |evil: &crate::rig::release::Release| blob_path(&evil.file("model"));
    trick(rig, "404 for the model", model, Trick::Status(404), refused(Fetch, "the server answered 404"));
    trick(rig, "500 for the model", model, Trick::Status(500), refused(Fetch, "the server answered 500"));
    trick(rig, "a redirect for the model", model, redirect(), refused(Fetch, "the server answered 302"));
    trick(rig, "half a model", model, Trick::Cut(1000), refused(Fetch, "was cut at"));
    trick(rig, "other bytes for the model", model, Trick::Bytes(b"short".to_vec()), refused(BlobLength, "signed are"));
    trick(
        rig,
        "a part that was not asked for",
        model,
        Trick::WrongRange,
        refused(Fetch, "not the range that was asked for"),
    );
    trick(rig, "a length that is a lie", model, Trick::Length(7), refused(BlobLength, "signed are"));
    let encoded = Trick::Encoded("gzip", vec![0x1f, 0x8b, 8, 0]);
    trick(rig, "an encoding of the model", model, encoded, refused(Fetch, "is encoded as"));
}
