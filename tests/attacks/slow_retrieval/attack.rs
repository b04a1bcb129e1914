//! The attacker holds the server and the network, and serves what is right, a byte a second: a device that waits for it hears
//! of nothing else, and what it holds open never ends. Each file must be given up for its pace, long before it is whole.

use std::thread;

use tern_protocol::refusal::RefusalCode::Fetch;

use crate::rig::{Rig, https::Trick, refused, release::Release, repository::blob_path};

/// The device is less patient than one in the field, so that nobody waits for minutes here.
pub(crate) const CONFIG: &str = "source_patience_seconds = 2\n";

#[test]
fn what_comes_a_byte_a_second_is_given_up() {
    // Nearly all of it is waiting, so two devices wait at once.
    thread::scope(|scope| {
        let parts: [fn(&mut Rig); 2] = [metadata, content];
        let all = parts.map(|part| {
            scope.spawn(move || {
                let mut rig = Rig::with("slow_retrieval", CONFIG, &[]);
                part(&mut rig);
                rig.finish();
            })
        });
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// On a device with [`CONFIG`].
pub(crate) fn tried(rig: &mut Rig) {
    metadata(rig);
    content(rig);
}

fn metadata(rig: &mut Rig) {
    for (name, file) in [
        ("the next root", ".root.json"),
        ("timestamp", "timestamp.json"),
        ("snapshot", "snapshot.json"),
        ("targets", "targets.json"),
        ("the team's role", "demo.json"),
    ] {
        slow(rig, name, |_| file.to_owned(), "too slow");
    }
}

fn content(rig: &mut Rig) {
    slow(rig, "the manifest", Release::manifest_path, "too slow");
    slow(rig, "the model", |evil| blob_path(&evil.file("model")), "is too slow");
}

fn slow(rig: &mut Rig, name: &str, on: impl Fn(&Release) -> String, words: &'static str) {
    let evil = rig.evil();
    let files = rig.publication(&[&evil]).files();
    rig.https.serve(files);
    let path = on(&evil);
    rig.https.play(&path, Trick::Trickle);
    rig.https.traffic(&path);
    rig.try_demand(&format!("{name}, a byte a second"), evil.desired(), refused(Fetch, words));
    let traffic = rig.https.traffic(&path);
    assert!(traffic.requests > 0, "{name}: nobody asked");
    assert!(traffic.bytes < 100 * traffic.requests, "{name} was waited for: {traffic:?}");
}
