//! The files of `examples/deploy/` work as they are: configurations load and tell the truth, units start what exists and
//! keep it in.

use std::{collections::BTreeSet, path::Path, process::Command};

use tern_agent::config::Config as AgentConfig;
use tern_fleet_server::config::Config as ServerConfig;

use super::{
    readme::fault,
    tree::{none, read, root},
};

/// Keys of `agent.toml` that show an example, since they have no default or one that depends on the machine.
const AGENT_EXAMPLES: [&str; 5] = ["ready_file", "labels", "infer_socket", "infer_tcp", "threads"];

/// The same of `server.toml`.
const SERVER_EXAMPLES: [&str; 5] =
    ["ready_file", "console_listen", "public_host", "webhook_url", "webhook_secret_file"];

/// Units, with the default configuration of each.
const UNITS: [(&str, &str); 2] =
    [("tern-agent.service", "/etc/tern/agent.toml"), ("tern-server.service", "/etc/tern/server.toml")];

/// The key in a line `#key = value` of a configuration, which stands for a default or an example.
fn shown_key(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix('#')?.split_once(" = ")?;
    key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(key)
}

/// The table that a line `[name]` begins, which is a key of the configuration too.
fn table(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

/// The configuration with its shown lines switched on, but for those of `except`.
fn switched_on(text: &str, except: &[&str]) -> String {
    let line = |line: &str| match shown_key(line) {
        Some(key) if !except.contains(&key) => line[1..].to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The fields of `pub struct Config` in a source file.
fn fields(source: &str) -> BTreeSet<String> {
    let text = read(source);
    let body = text.split("pub struct Config {").nth(1).and_then(|rest| rest.split("\n}").next());
    let lines = body.unwrap_or_else(|| panic!("{source} has no `pub struct Config`")).lines();
    let names = lines.filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next().map(str::to_owned));
    names.collect()
}

fn shows_every_key(file: &str, source: &str) {
    let text = read(file);
    let shown: BTreeSet<_> =
        text.lines().filter_map(|line| shown_key(line).or(table(line))).map(str::to_owned).collect();
    let missing: Vec<_> = fields(source).difference(&shown).cloned().collect();
    none(&missing, &format!("{file} must show every key of {source}, with a word on what it does"));
}

#[test]
fn the_agents_configuration_loads_and_shows_the_defaults() {
    const FILE: &str = "examples/deploy/agent.toml";
    shows_every_key(FILE, "agent/src/config.rs");
    let text = read(FILE);
    let parse = |text: &str| AgentConfig::parse(text, Path::new(FILE)).unwrap_or_else(|e| panic!("{FILE}: {e}"));
    let defaults = parse("");
    assert_eq!(AgentConfig::load(&root().join(FILE)).unwrap(), defaults, "{FILE} must change nothing as it stands");
    assert_eq!(parse(&switched_on(&text, &AGENT_EXAMPLES)), defaults, "{FILE} must show the true defaults");
    parse(&switched_on(&text, &[]));
}

#[test]
fn the_servers_configuration_loads_and_shows_the_defaults() {
    const FILE: &str = "examples/deploy/server.toml";
    shows_every_key(FILE, "fleet-server/src/config.rs");
    shows_every_key(FILE, "fleet-server/src/hooks/config.rs");
    let folder = tempfile::tempdir().unwrap();
    let parse = |text: &str| {
        let copy = folder.path().join("server.toml");
        write(&copy, text);
        ServerConfig::read(&copy).unwrap_or_else(|e| panic!("{FILE}: {e:#}"))
    };
    let (text, defaults) = (read(FILE), ServerConfig::default());
    assert_eq!(parse(&text), defaults, "{FILE} must change nothing as it stands");
    assert_eq!(parse(&switched_on(&text, &SERVER_EXAMPLES)), defaults, "{FILE} must show the true defaults");
    parse(&switched_on(&text, &[]));
}

#[test]
fn units_are_valid() {
    // The programs need not be installed for the check, so something that is stands in for them.
    let stand_in = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (unit, _) in UNITS {
        let text: String = read(&format!("examples/deploy/{unit}"))
            .lines()
            .map(|line| match line.strip_prefix("ExecStart=") {
                Some(_) => format!("ExecStart={}\n", stand_in.display()),
                None => format!("{line}\n"),
            })
            .collect();
        let copy = folder.path().join(unit);
        write(&copy, &text);
        let output = systemd_analyze(&["verify", copy.to_str().unwrap()]);
        // An unknown key only prints a warning and exits 0, so any output is a fault.
        assert!(output.0 && output.1.is_empty(), "systemd-analyze verify {unit} says:\n{}", output.1);
    }
}

#[test]
fn units_are_hardened() {
    for (unit, _) in UNITS {
        let path = root().join("examples/deploy").join(unit);
        let (kept, report) = systemd_analyze(&["security", "--offline=true", "--threshold=20", path.to_str().unwrap()]);
        assert!(
            kept,
            "{unit} is exposed by more than 2.0; see the lines with ✗ and close what the program can do without:\n{report}"
        );
    }
}

#[test]
fn units_start_what_exists() {
    let mut wrong = Vec::new();
    for (unit, configuration) in UNITS {
        let text = read(&format!("examples/deploy/{unit}"));
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a unit starts something");
        wrong.extend(fault(start));
        if !start.contains(configuration) {
            wrong.push(format!("{unit} does not load {configuration}"));
        }
    }
    none(&wrong, "mend ExecStart");
}

#[test]
fn units_agree_with_the_default_configurations() {
    let has = |unit: &str, key: &str, path: &Path, base: &str| {
        let line = format!("{key}={}", path.strip_prefix(base).unwrap().display());
        assert!(read(&format!("examples/deploy/{unit}")).lines().any(|l| l == line), "{unit} needs the line {line}");
    };
    let agent = AgentConfig::parse("", Path::new("agent.toml")).unwrap();
    has("tern-agent.service", "StateDirectory", &agent.state_dir, "/var/lib");
    has("tern-agent.service", "RuntimeDirectory", &agent.runtime_dir, "/run");
    has("tern-server.service", "StateDirectory", &ServerConfig::default().data_dir, "/var/lib");
    assert_eq!(tern_agent::config::DEFAULT_PATH, UNITS[0].1);
}

#[test]
fn the_agents_unit_lets_the_worker_lock_itself_in() {
    let text = read("examples/deploy/tern-agent.service");
    for needed in ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"] {
        let allowed = text.lines().any(|l| {
            l.starts_with("SystemCallFilter=") && !l.contains('~') && l.split(['=', ' ']).any(|w| w == needed)
        });
        assert!(allowed, "without {needed} the worker cannot lock itself in");
    }
}

#[expect(clippy::disallowed_methods, reason = "a scratch copy, gone when the test ends")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a scratch folder takes a file");
}

/// Whether `systemd-analyze` was content, and what it printed.
fn systemd_analyze(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .env("SYSTEMD_LOG_LEVEL", "notice")
        .output()
        .expect("systemd-analyze is installed: tests/run installs it with the package systemd");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
}
