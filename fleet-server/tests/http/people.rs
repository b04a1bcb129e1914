//! What the page on approvals and recalls tells people to type, typed: `tern` as real processes, a folder for each person.

#![expect(clippy::disallowed_methods, reason = "tests write scratch files")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use tern_fleet_server::forms::VersionDetail;

use super::*;

const PAGE: &str = include_str!("../../../docs/approval.md");
const TERN: &str = env!("CARGO_BIN_EXE_tern");

/// The shell blocks below a heading of the page, in order.
fn steps(heading: &str) -> String {
    let section = PAGE.split("\n## ").find(|section| section.lines().next() == Some(heading)).unwrap();
    let blocks: Vec<_> = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty(), "{heading} shows no step");
    blocks.concat()
}

/// A folder for the admin, Ann and Bob, as the page describes it.
fn folders(rig: &Rig) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let operator = rig.folder.path().join("data/operator");
    for (person, key) in [("ann", "release-demo.key"), ("bob", "release-demo-2.key")] {
        fs::create_dir(place(person)).unwrap();
        fs::copy(operator.join(key), place(&format!("{person}/release.key"))).unwrap();
    }
    fs::create_dir(place("admin")).unwrap();
    fs::write(place("ca.pem"), &rig.ca).unwrap();
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/models"), place("models")).unwrap();
    folder
}

/// Types these commands and stops at the first that fails; each command's question is answered with yes.
async fn typed(folder: &Path, rig: &Rig, commands: String) -> Output {
    let path = format!("{}:{}", Path::new(TERN).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let server = format!("https://localhost:{}", rig.server().addresses().https.port());
    let folder = folder.to_owned();
    let commands = format!("tern() {{ command tern \"$@\" <<< yes; }}\n{commands}");
    let run = move || {
        let mut shell = Command::new("bash");
        shell.args(["-euxo", "pipefail", "-c", &commands]).current_dir(&folder).env_clear();
        shell.env("PATH", path).env("SERVER", server).env("HOME", &folder);
        shell.stdin(Stdio::null()).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{out}\n{err}");
    format!("{out}\n{err}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_approve_and_recall_by_the_steps_of_the_page() {
    let rig = Rig::of_two_people().await;
    let folder = folders(&rig);
    let login = "tern --config admin/config.toml login --server \"$SERVER\" --ca ca.pem --token-file admin/token";
    let token = folder.path().join("admin/token");
    fs::copy(rig.folder.path().join("data/operator/token"), &token).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    said(&typed(folder.path(), &rig, login.into()).await);

    let version = async |version: &str| -> VersionDetail {
        rig.admin().get(&format!("/api/v1/models/demo/meter-digits/{version}")).await.ok()
    };
    let told = said(&typed(folder.path(), &rig, steps("Approve")).await);
    for words in [
        "draft: 1 of 2 signatures; another holder of a release key runs `tern model approve demo/meter-digits@1.0.0`",
        "open: 1 of 2 signatures",
        "it is the first version",
        "demo/meter-digits@1.0.1 against demo/meter-digits@1.0.0",
        "ok: the model loads",
        "ok: it agrees with its 16 golden vectors",
        "compared: the version before answers",
        "proposal 2 is published",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // The child that ran the models tried after confining itself what it must not do any more.
    assert!(!told.contains("can still be") && !told.contains("seccomp: "), "{told}");
    for number in ["1.0.0", "1.0.1"] {
        let row = version(number).await.row;
        assert_eq!((row.signed, row.published_by.as_str()), (true, "ann"));
    }

    let told = said(&typed(folder.path(), &rig, steps("Recall")).await);
    assert!(told.contains("demo/meter-digits: recalls 1.0.1: trained on swapped labels"), "{told}");
    assert!(told.contains("recalled, it may run no more: trained on swapped labels"), "{told}");
    let row = version("1.0.1").await.row;
    assert_eq!((row.signed, row.recalled.as_deref()), (false, Some("trained on swapped labels")));
    assert!(version("1.0.0").await.row.signed, "the other version may run");
    assert_eq!(assign(&rig, "demo/meter-digits@1.0.1", "*").await.problem(), (409, "version-recalled".into()));

    // Neither can do both: Ann may approve nothing, and both keys in her hand publish nothing of hers.
    let alone = "cp bob/release.key ann/second.key
        tern --config ann/config.toml model publish models/meter-digits/1.1.0 --key ann/release.key --key ann/second.key";
    let told = said(&typed(folder.path(), &rig, alone.into()).await);
    assert!(told.contains("a signature from somebody other than ann"), "{told}");
    assert!(!version("1.1.0").await.row.signed);
    let approve = "tern --config ann/config.toml model approve demo/meter-digits@1.1.0 --key ann/second.key";
    let refused = typed(folder.path(), &rig, approve.into()).await;
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && why.contains("ann (publisher, for team demo), whose token may not approve"),
        "{why}"
    );
    assert!(!version("1.1.0").await.row.signed);
}

#[tokio::test]
async fn the_process_that_runs_a_strangers_model_is_confined_before_it_reads_a_byte() {
    let mut child = Command::new(TERN);
    let child = child.arg("run-confined").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.stderr(Stdio::null()).spawn().unwrap();
    let page = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
    let line = |page: &str, name: &str| {
        page.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    // It waits for a version that does not come: the filter is the last thing that it does before.
    let confined = async || Some(page("status")).filter(|status| line(status, "Seccomp:") == "2");
    let status = eventually(confined).await;
    assert_eq!(line(&status, "NoNewPrivs:"), "1");
    assert_eq!(line(&status, "Threads:"), "1", "nobody stayed outside");
    let limits = page("limits");
    let memory = (1u64 << 30) + (256 << 20);
    assert_eq!(line(&limits, "Max address space"), memory.to_string());
    assert_eq!(line(&limits, "Max cpu time"), "120");
    assert_eq!(line(&limits, "Max core file size"), "0");
    assert_eq!(line(&limits, "Max open files"), "16");
    assert_eq!(page("environ"), "");
    // Cut short, it reports nothing and fails.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\0\0\0\0").unwrap();
    drop(input);
    let mut report = String::new();
    child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(!child.wait().unwrap().success() && report.is_empty(), "{report}");
}
