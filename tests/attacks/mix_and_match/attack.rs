//! The attacker holds the server and the network, and two versions that were both honestly released. He gives the device
//! the model of one with the golden vectors, the reference or the manifest of the other. One digest covers a bundle, so
//! each mixture must be refused.

use tern_protocol::refusal::RefusalCode::{BlobDigest, BlobLength, ManifestDigest};

use crate::rig::{Rig, https::Trick, refused, repository::blob_path};

#[test]
fn parts_of_two_versions_do_not_make_a_third() {
    let mut rig = Rig::new("mix_and_match");
    tried(&mut rig);
    rig.finish();
}

pub(crate) fn tried(rig: &mut Rig) {
    let older = rig.active.clone();
    for role in ["model", "golden", "reference"] {
        // The later one's file is unlike any on the device, else there would be nothing to fetch.
        let fresh = format!("{role} of the newer version ").repeat(900).into_bytes();
        let newer = rig.evil().with_file(role, fresh.clone());
        let files = rig.publication(&[&newer]).files();
        rig.https.serve(files);
        let mut other = older.file(role);
        let expected = if other.len() == fresh.len() {
            refused(BlobDigest, "has digest")
        } else {
            refused(BlobLength, "signed are")
        };
        rig.https.play(&blob_path(&fresh), Trick::Bytes(other.clone()));
        rig.try_demand(&format!("the older version's {role}"), newer.desired(), expected);
        // The same, made as long as it should be.
        let newer = rig.evil().with_file(role, fresh.clone());
        let files = rig.publication(&[&newer]).files();
        rig.https.serve(files);
        other.resize(fresh.len(), b' ');
        rig.https.play(&blob_path(&fresh), Trick::Bytes(other));
        let variant = format!("the older version's {role}, of the newer one's length");
        rig.try_demand(&variant, newer.desired(), refused(BlobDigest, "has digest"));
    }
    let newer = rig.evil();
    let files = rig.publication(&[&newer]).files();
    rig.https.serve(files);
    rig.https.play(&newer.manifest_path(), Trick::Bytes(older.bytes()));
    let expected = refused(ManifestDigest, "does not match its signed digest");
    rig.try_demand("the older version's manifest", newer.desired(), expected);
    // The stolen director names a signed version's manifest as another signed version.
    let newer = rig.evil();
    let files = rig.publication(&[&newer]).files();
    rig.https.serve(files);
    let mut demand = newer.desired();
    demand.manifest = rig.next.digest();
    let expected = refused(ManifestDigest, "is not the signed one");
    rig.try_demand("an older version's digest under a newer name", demand, expected);
}
