//! Makes a data folder as a whole or not at all: everything is written into a folder beside it, which is then renamed.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use tern_protocol::{
    digest::Digest,
    ids::{FleetId, TeamId},
};

use super::{args::ServerRole, prepare, private_folder};
use crate::{
    ca::Authority,
    ceremony::faults,
    clock,
    disk::{self, Access, blobs::Blobs},
    events::EventKind,
    identity::{Operator, Role, Secret},
    keyfile,
    repository::{self, Keyring, OnlineKeys, TrustChange, solo},
    store::{FleetSettings, NewEvent, Store},
};

/// Longest paper of a ceremony, in bytes.
const MAX_PAPER: u64 = 5_000_000;

/// What to make.
#[derive(Debug, Clone)]
pub struct InitOrder {
    /// The folder to make.
    pub data_dir: PathBuf,
    /// The fleet.
    pub fleet: FleetId,
    /// The teams of a fleet whose every key is made here; none where a ceremony is to come.
    pub solo: Option<Vec<TeamId>>,
    /// Names in the server's certificate.
    pub names: Vec<String>,
}

impl InitOrder {
    /// What to tell the operator.
    pub(super) fn words(&self) -> String {
        let folder = self.data_dir.display();
        let Some(teams) = &self.solo else {
            return format!(
                "made {folder}\n\
                 for the operator, to be moved away: {folder}/operator/{{token,ca.pem}}\n\
                 for the ceremony: {folder}/public/{{snapshot,timestamp,director}}.pub\n\
                 next: the ceremony, then tern-server adopt FOLDER --data-dir {folder}"
            );
        };
        let keys: Vec<_> = teams.iter().map(|team| format!("release-{team}.key,candidate-{team}.key")).collect();
        format!(
            "UNSAFE: every key of fleet {} lies on this machine, one of one. Whoever takes it takes the fleet.\n\
             This is for trials. Never use --solo in production.\n\
             \n\
             made {folder}\n\
             for the operator, to be moved away: {folder}/operator/{{token,ca.pem,{}}}\n\
             next: tern-server run --data-dir {folder}",
            self.fleet,
            keys.join(",")
        )
    }

    fn check(&self) -> anyhow::Result<()> {
        if let Some(teams) = &self.solo {
            let distinct: std::collections::BTreeSet<_> = teams.iter().collect();
            ensure!(distinct.len() == teams.len(), "a team is named twice");
            faults::teams(teams, 2 * teams.len())?;
        }
        ensure!(!self.names.is_empty(), "give the names under which the server is reached with --name");
        Ok(())
    }
}

/// Makes the data folder: of a solo fleet with one key for each role, else with the server's own keys only.
///
/// # Errors
/// Where the folder exists and is not empty, a name is not valid, or the disk refuses. Then nothing was made.
pub async fn init(order: &InitOrder) -> anyhow::Result<()> {
    prepare();
    order.check()?;
    let folder = &order.data_dir;
    let is_free = std::fs::read_dir(folder).map_or(!folder.exists(), |mut entries| entries.next().is_none());
    ensure!(is_free, "{} exists: choose another folder, or remove it if its fleet is dead", folder.display());
    let name = folder.file_name().context("the data folder needs a name")?.to_string_lossy();
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = parent.join(format!(".{name}.partial"));
    // Left by an init that was killed; nothing ever ran on it.
    disk::remove_tree(&partial).with_context(|| format!("remove {}", partial.display()))?;
    let made = make(&partial, order, clock::now()).await;
    let made = made.and_then(|()| Ok(disk::rename(&partial, folder)?));
    if made.is_err() {
        let _ = disk::remove_tree(&partial);
    }
    made.with_context(|| format!("make {}", folder.display()))
}

async fn make(folder: &Path, order: &InitOrder, now: Timestamp) -> anyhow::Result<()> {
    let (keys, operator, ca) = (folder.join("keys"), folder.join("operator"), folder.join("ca"));
    for path in [folder, &keys, &operator, &ca] {
        private_folder(path)?;
    }
    let authority = Authority::create(&ca, &format!("tern {}", order.fleet), now)?;
    // A name that no certificate can carry must stop here, not at the first start.
    authority.https(&order.names, now)?;
    disk::write(&operator.join("ca.pem"), authority.pem().as_bytes(), Access::Public)?;
    Blobs::open(&folder.join("blobs")).context("make the blobs' folder")?;

    match &order.solo {
        Some(teams) => solo(folder, &keys, &operator, teams, now)?,
        None => ServerRole::ALL.iter().try_for_each(|role| new_key(folder, *role).map(drop))?,
    }

    let token = Secret::generate()?;
    disk::write(&operator.join("token"), format!("{}\n", token.reveal()).as_bytes(), Access::Private)?;
    let store = Store::open(&folder.join("server.db")).context("make server.db")?;
    let settings = FleetSettings { fleet: order.fleet.clone(), names: order.names.clone() };
    store.settle(settings).await?;
    store.add_token(token.hash(), Operator::new("admin", Role::Admin), now).await?;
    let how = if order.solo.is_some() { "with all keys on one machine (--solo)" } else { "for a ceremony" };
    store.record(NewEvent::new(EventKind::Initialised, how), now).await?;
    store.close().await;
    Ok(())
}

/// Makes every key here, and the repository.
fn solo(folder: &Path, keys: &Path, operator: &Path, order: &[TeamId], now: Timestamp) -> anyhow::Result<()> {
    let mut teams = Vec::new();
    for team in order {
        let key = |kind: &str| keyfile::create(&operator.join(format!("{kind}-{team}.key")), None);
        let (release, candidate) = (vec![key("release")?.public()], key("candidate")?.public());
        teams.push(solo::TeamKeys { team: team.clone(), release, threshold: 1, candidate });
    }
    let keys = solo::SoloKeys {
        root: keyfile::create(&keys.join("root-1.key"), None)?,
        targets: keyfile::create(&keys.join("targets-1.key"), None)?,
        online: OnlineKeys::new(
            keyfile::create(&keys.join("snapshot-1.key"), None)?,
            keyfile::create(&keys.join("timestamp-1.key"), None)?,
        ),
        director: keyfile::create(&keys.join("director-1.key"), None)?.public(),
        teams,
    };
    // For the ceremony that ends the trial.
    let public = folder.join("public");
    private_folder(&public)?;
    for (role, key) in
        [("snapshot", keys.online.snapshot[0].public()), ("timestamp", keys.online.timestamp[0].public())]
    {
        keyfile::write_public(&public.join(format!("{role}.pub")), &key)?;
    }
    keyfile::write_public(&public.join("director.pub"), &keys.director)?;
    solo::create(&folder.join("tuf"), &keys, now).context("make the TUF repository")?;
    Ok(())
}

/// Makes a key of the server's and writes its public half into `public/`; gives that file.
///
/// # Errors
/// Where the disk refuses.
pub(super) fn new_key(folder: &Path, role: ServerRole) -> anyhow::Result<PathBuf> {
    let (keys, public) = (folder.join("keys"), folder.join("public"));
    ensure!(keys.is_dir(), "{} holds no server: make one with `tern-server init`", folder.display());
    private_folder(&public)?;
    let name = (1..)
        .map(|number| format!("{}-{number}", role.as_str()))
        .find(|name| !keys.join(format!("{name}.key")).exists())
        .context("invariant: numbers do not end")?;
    let key = keyfile::create(&keys.join(format!("{name}.key")), None)?;
    // The first has the plain name, which is what a first ceremony names.
    let name = name.strip_suffix("-1").unwrap_or(&name);
    let file = public.join(format!("{name}.pub"));
    keyfile::write_public(&file, &key.public())?;
    Ok(file)
}

/// Takes over what the first ceremony agreed on; says what that is.
///
/// # Errors
/// Where there is no server, one that has its trust already, or devices would refuse what was agreed on.
pub(super) fn adopt(data: &Path, ceremony: &Path, now: Timestamp) -> anyhow::Result<String> {
    prepare();
    let tuf = data.join("tuf");
    ensure!(data.join("server.db").exists(), "{} holds no server: make one with `tern-server init`", data.display());
    let _lock = disk::lock(&data.join("server.lock"))
        .with_context(|| format!("take {}: is a server running on it?", data.display()))?;
    ensure!(
        !tuf.join("metadata").exists(),
        "this server has its root and targets: later ceremonies are sent with `tern key ceremony publish FOLDER`"
    );
    let read = |name: &str| {
        let path = ceremony.join("next").join(name);
        let bytes = disk::read(&path, MAX_PAPER).with_context(|| format!("read {}", path.display()))?;
        bytes.with_context(|| format!("{} is missing: run `tern key ceremony prepare` first", path.display()))
    };
    let change = TrustChange { root: Some(read("root.json")?), targets: Some(read("targets.json")?) };
    let partial = data.join(".tuf.partial");
    disk::remove_tree(&partial).context("remove what an interrupted adoption left")?;
    let keys = Keyring::open(&data.join("keys"))?;
    repository::adopt(&partial, &keys, &change, now)?;
    disk::rename(&partial, &tuf)?;
    let root = Digest::of(&change.root.unwrap_or_default());
    Ok(format!("adopted: root 1 and targets 1\nSHA-256 of root 1, for `tern key ceremony fetch --root-sha256`: {root}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(folder: &Path) -> InitOrder {
        InitOrder {
            data_dir: folder.join("data"),
            fleet: "f".parse().unwrap(),
            solo: Some(vec!["demo".parse().unwrap()]),
            names: vec!["localhost".into()],
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_there_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let order = order(scratch.path());
        std::fs::create_dir(&order.data_dir).unwrap();
        std::fs::File::create(order.data_dir.join("precious")).unwrap();
        assert!(init(&order).await.unwrap_err().to_string().contains("exists"));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
        std::fs::remove_file(order.data_dir.join("precious")).unwrap();
        init(&order).await.unwrap();
        assert!(init(&order).await.is_err());
    }

    #[tokio::test]
    async fn a_failed_or_killed_init_leaves_nothing_that_counts() {
        let scratch = tempfile::tempdir().unwrap();
        let good = order(scratch.path());
        let bad = InitOrder { names: vec!["nöt a name".into()], ..good.clone() };
        assert!(init(&bad).await.is_err());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        // What a kill leaves: the folder beside, never the folder itself.
        std::fs::create_dir_all(scratch.path().join(".data.partial/keys")).unwrap();
        init(&good).await.unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn names_that_collide_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let good = order(scratch.path());
        let team = |name: &str| name.parse::<TeamId>().unwrap();
        for teams in [vec![team("snapshot")], vec![team("a"), team("a")], vec![]] {
            assert!(init(&InitOrder { solo: Some(teams.clone()), ..good.clone() }).await.is_err(), "{teams:?}");
        }
    }

    #[tokio::test]
    async fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let order = order(scratch.path());
        init(&order).await.unwrap();
        let mode = |path: &str| std::fs::metadata(order.data_dir.join(path)).unwrap().permissions().mode() & 0o777;
        for path in
            ["ca/ca.key", "keys/root-1.key", "keys/director-1.key", "operator/token", "operator/release-demo.key"]
        {
            assert_eq!(mode(path), 0o600, "{path}");
        }
        for path in ["", "keys", "operator", "ca", "tuf", "blobs"] {
            assert_eq!(mode(path), 0o700, "{path:?}");
        }
    }
}
