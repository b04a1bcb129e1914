//! The page about keys and ceremonies, carried out: every block of `docs/ceremony.md` as its person, in the page's order,
//! with the real programs, and a device that runs what two people released and loses what they recalled.

#![expect(clippy::unwrap_used, reason = "a broken scene should fail loudly")]
#![expect(clippy::disallowed_methods, reason = "scratch files need not survive a power cut")]

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tern_examples::{
    clock::Moment,
    hardships::Hardships,
    processes::{Program, Programs},
    world::World,
};

/// Longest time that anything is waited for.
const DEADLINE: Duration = Duration::from_secs(90);

/// A shell block: who runs it, and what.
struct Block {
    person: String,
    script: String,
}

/// The blocks of the page.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in page.lines() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(Vec::new()),
            (Some(lines), "```") => {
                let person = lines[0].strip_prefix("# ").expect("a block begins with its person").to_owned();
                blocks.push(Block { person, script: lines[1..].join("\n") });
                open = None;
            }
            (Some(lines), line) => lines.push(line),
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block does not end");
    blocks
}

/// Where the people are, and what they call the programs.
struct Scene {
    world: World,
    folder: PathBuf,
    programs: PathBuf,
}

impl Scene {
    async fn new(folder: &Path) -> Self {
        let programs = Programs::new(env!("CARGO_BIN_EXE_tern-under-test"));
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (name, program) in
            [("tern", Program::Tern), ("tern-server", Program::Server), ("tern-agent", Program::Agent)]
        {
            let [executable, word] = programs.words(program);
            let file = bin.join(name);
            std::fs::write(&file, format!("#!/bin/sh\nexec '{executable}' {word} \"$@\"\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
        std::os::unix::fs::symlink(assets, folder.join("examples")).unwrap();
        std::fs::write(folder.join("passphrase"), "nine geese fly south\n").unwrap();
        std::fs::set_permissions(folder.join("passphrase"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let world = World::new(programs, folder, 1, Duration::ZERO, Hardships::default()).await.unwrap();
        std::fs::write(world.retrain_hook(), "#!/bin/sh\n").unwrap();
        Self { world, folder: folder.to_owned(), programs: bin }
    }

    /// The page's names of places become those of this world.
    fn here(&self, script: &str) -> String {
        let server = self.world.server_folder();
        let mut script = script.replace("/var/lib/tern-server", server.to_str().unwrap());
        if let Ok(ready) = std::fs::read(self.folder.join("run/server.json")) {
            let ready: Value = serde_json::from_slice(&ready).unwrap();
            let port = ready["https"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
            script = script.replace("tern.example.org:8443", &format!("localhost:{port}"));
        }
        script.replace("tern.example.org", "localhost")
    }

    async fn run(&self, block: &Block) -> Result<String, String> {
        let home = self.folder.join("homes").join(&block.person);
        std::fs::create_dir_all(&home).unwrap();
        let mut command = tokio::process::Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &self.here(&block.script)]).current_dir(&self.folder);
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("HOME", &home).env_remove("XDG_CONFIG_HOME");
        command.env("TERN_KEY_PASSPHRASE_FILE", self.folder.join("passphrase")).kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output()).await.expect("a block ends").unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("");
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    async fn say(&self, person: &str, script: &str) -> Result<String, String> {
        self.run(&Block { person: person.into(), script: script.into() }).await
    }

    async fn succeed(&self, person: &str, script: &str) -> String {
        self.say(person, script).await.unwrap_or_else(|text| panic!("{person}: {script}\n{text}"))
    }

    /// Waits until the device's model stands as `wanted` says.
    async fn device_comes_to(&self, wanted: impl Fn(&Value) -> bool) {
        let started = Moment::now();
        loop {
            let row: Value = self.world.operator.tern(&["device", "show", "cam-1"]).await.unwrap();
            if wanted(&row) {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "the device never came to it: {row:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether the device's answers come from this version.
fn runs(row: &Value, version: &str) -> bool {
    row["models"].as_array().into_iter().flatten().any(|model| model["version"] == version)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_about_ceremonies_is_carried_out_block_by_block() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ceremony.md")).unwrap();
    // Kept after a failure: the logs in it say what happened.
    let folder = tempfile::Builder::new().prefix("tern-").tempdir().unwrap().keep();
    let scene = Scene::new(&folder).await;
    let mut told = 0;
    for block in &blocks(&page) {
        before(&scene, block).await;
        if block.person == "systemd" {
            scene.world.start_server().await.unwrap();
            scene.world.log_in().await.unwrap();
            scene.world.start_device(&scene.world.devices[0], 0).await.unwrap();
            continue;
        }
        let text = scene.run(block).await;
        let text =
            text.unwrap_or_else(|text| panic!("{} in {}: {}\n{text}", block.person, folder.display(), block.script));
        // Shown where the test fails.
        println!("{}: {}\n{text}", block.person, block.script);
        after(&scene, block).await;
        told += 1;
    }
    assert!(told > 25, "{told} blocks ran");
    scene.world.stop().await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

/// What must not be possible yet when this block begins.
async fn before(scene: &Scene, block: &Block) {
    let first = |words: &str| block.script.lines().any(|line| line.starts_with(words));
    if first("tern-server adopt") {
        let refused = scene.say("server", "tern-server run --data-dir /var/lib/tern-server").await.unwrap_err();
        assert!(refused.contains("no ceremony was adopted yet"), "{refused}");
    }
    if block.person == "ben" && first("tern key ceremony sign") {
        let refused =
            scene.say("server", "tern-server adopt ceremony --data-dir /var/lib/tern-server").await.unwrap_err();
        assert!(refused.contains("root, keys of the next root: 1 of 2 signed"), "{refused}");
        let refused = scene.say("cold", "tern key ceremony status ceremony").await.unwrap_err();
        assert!(refused.contains("signatures are missing"), "{refused}");
    }
    if first("tern model approve demo/meter-digits@1.0.0") {
        let assign = "tern assign demo/meter-digits@1.0.0 --to '*' --reason early";
        let refused = scene.say("operator", assign).await.unwrap_err();
        assert!(refused.contains("signed"), "{refused}");
        let own = scene.say("dora", "tern model approve demo/meter-digits@1.0.0 --key dora --yes").await.unwrap_err();
        assert!(own.contains("may not") || own.contains("own"), "{own}");
    }
    if block.person == "carla" && first("tern key ceremony sign") {
        let refused = scene.say("anna", "tern key ceremony publish ceremony").await.unwrap_err();
        assert!(
            refused.contains("signatures are missing, so nothing was sent") && refused.contains("not yet: "),
            "{refused}"
        );
        let root: Value =
            serde_json::from_slice(&std::fs::read(scene.folder.join("ceremony/root.json")).unwrap()).unwrap();
        if root["signed"]["version"] == 2 {
            // The one who left counts for nothing.
            let left = scene.say("ben", "tern key ceremony sign ceremony --key ben --yes").await.unwrap_err();
            assert!(left.contains("counts for nothing"), "{left}");
        }
    }
}

/// What must be true once it ended.
async fn after(scene: &Scene, block: &Block) {
    let ran = |words: &str| block.script.lines().any(|line| line.starts_with(words));
    for version in ["1.0.0", "1.1.0"] {
        if ran(&format!("tern model approve demo/meter-digits@{version}")) {
            let assign = format!(
                "tern assign demo/meter-digits@{version} --to '*' --reason first --probation-inferences 0 \
                 --probation-seconds 1"
            );
            scene.succeed("operator", &assign).await;
            scene.device_comes_to(|row| runs(row, version)).await;
        }
    }
    if ran("tern model approve --proposal 3") {
        scene.device_comes_to(|row| runs(row, "1.0.0")).await;
        let again = "tern assign demo/meter-digits@1.1.0 --to '*' --reason again";
        let refused = scene.say("operator", again).await.unwrap_err();
        assert!(refused.contains("recalled"), "{refused}");
    }
    if ran("tern model approve --proposal 4") {
        let list = scene.succeed("operator", "tern model list").await;
        assert!(list.contains("1.0.0"), "{list}");
        scene.succeed("operator", "tern assign demo/meter-digits@1.0.0 --to '*' --reason still").await;
    }
}
