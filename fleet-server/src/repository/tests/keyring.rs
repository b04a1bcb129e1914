//! The server's key files: what cannot be read is left out and named where it is missed.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::keyfile;

#[test]
fn a_key_file_that_cannot_be_read_is_missed_only_where_root_names_it() {
    let scratch = scratch();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let Keys { snapshot, timestamp, director, .. } = scratch.keys.as_ref();
    for (name, key) in [("snapshot-1.key", snapshot), ("timestamp-1.key", timestamp), ("director-1.key", director)] {
        keyfile::write(&file(name), key, None).unwrap();
    }
    disk::write(&file("old.key"), b"-----BEGIN", Access::Private).unwrap();
    fs::create_dir(file("folder.key")).unwrap();
    let open = || Keyring::open(folder.path()).unwrap();
    let repository = Repository::open(scratch.folder.path(), open(), now()).unwrap();
    let root = repository.lock().trusted.root().clone();
    assert!(repository.freshen(later(4)).unwrap());
    assert_eq!(repository.director().unwrap().len(), 1);

    // The very key that root names: who reads the error finds the file and what to do with it.
    fs::set_permissions(file("timestamp-1.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let missing = open().of_role(&root, "timestamp").unwrap_err();
    assert_eq!((missing.role, missing.threshold, missing.found, missing.unreadable.len()), ("timestamp", 1, 0, 3));
    let words = missing.to_string();
    let exposed = format!("chmod 600 {}", file("timestamp-1.key").display());
    for wanted in [exposed.as_str(), "old.key holds no usable key", "folder.key"] {
        assert!(words.contains(wanted), "{words}");
    }
    assert_eq!(open().of_role(&root, "director").unwrap().len(), 1);
    fs::remove_file(file("timestamp-1.key")).unwrap();
    fs::remove_file(file("old.key")).unwrap();
    fs::remove_dir(file("folder.key")).unwrap();
    let words = open().of_role(&root, "timestamp").unwrap_err().to_string();
    assert!(words.ends_with("name it in a ceremony"), "{words}");
}
