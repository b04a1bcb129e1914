//! Which server, with which token, trusting which CA: from the environment, else from the configuration file.
//!
//! The CA is kept inside the file, so that moving the original cannot change whom `tern` trusts.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::confined::Itself;
use crate::{
    disk::{self, Access},
    keyfile::{Ask, Passphrase},
};

const MAX_BYTES: u64 = 64 << 10;

/// The variables that `tern` reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    pub server: Option<String>,
    pub token: Option<String>,
    pub ca: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub release_key: Option<PathBuf>,
    /// How this program starts itself again; none where it cannot.
    pub itself: Option<Itself>,
    /// The file that holds the passphrase of keys.
    pub passphrase_file: Option<PathBuf>,
    /// How a passphrase is asked for; none where there is nobody to ask.
    pub ask: Option<Ask>,
    /// `$XDG_CONFIG_HOME`, or `$HOME/.config`.
    pub config_home: Option<PathBuf>,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let text = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let path = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            server: text("TERN_SERVER"),
            token: text("TERN_TOKEN"),
            ca: path("TERN_CA"),
            config: path("TERN_CONFIG"),
            release_key: path("TERN_RELEASE_KEY"),
            itself: None,
            passphrase_file: path("TERN_KEY_PASSPHRASE_FILE"),
            ask: Some(Passphrase::of_terminal),
            config_home: path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config"))),
        }
    }

    /// Where the configuration is: the flag, `TERN_CONFIG`, or the usual place.
    pub(super) fn config_file(&self, flag: Option<&Path>) -> Option<PathBuf> {
        let usual = || self.config_home.as_ref().map(|home| home.join("tern/config.toml"));
        flag.map(Path::to_owned).or_else(|| self.config.clone()).or_else(usual)
    }
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: String,
    token: String,
    ca_pem: String,
}

/// Whom to talk to, and as whom.
#[derive(Clone)]
pub(super) struct Settings {
    pub server: String,
    pub token: String,
    pub ca_pem: String,
    /// The folder of the configuration file, for what belongs beside it.
    pub folder: Option<PathBuf>,
}

impl Settings {
    /// The settings of this run.
    pub(super) fn load(environment: &Environment, place: Option<&Path>) -> anyhow::Result<Self> {
        let all_given = environment.server.is_some() && environment.token.is_some() && environment.ca.is_some();
        let file = if all_given { None } else { read_file(place)? };
        let (server, token, ca_pem) = match file {
            Some(file) => (Some(file.server), Some(file.token), Some(file.ca_pem)),
            None => (None, None, None),
        };
        let ca_given = environment.ca.as_deref().map(read_ca).transpose()?;
        let found = (environment.server.clone().or(server), environment.token.clone().or(token), ca_given.or(ca_pem));
        let (Some(server), Some(token), Some(ca_pem)) = found else {
            bail!(
                "not logged in: run `tern login --server URL --ca FILE --token-file FILE`, or set TERN_SERVER, \
                 TERN_TOKEN and TERN_CA"
            );
        };
        Ok(Self { server, token, ca_pem, folder: place.and_then(Path::parent).map(Path::to_owned) })
    }

    /// Writes them down for the runs to come, readable by their owner only.
    pub(super) fn save(&self, place: &Path) -> anyhow::Result<()> {
        let file = File { server: self.server.clone(), token: self.token.clone(), ca_pem: self.ca_pem.clone() };
        let text = toml::to_string(&file).context("configuration as TOML")?;
        if let Some(folder) = place.parent().filter(|f| !f.as_os_str().is_empty() && !f.is_dir()) {
            disk::create_folder(folder).with_context(|| format!("folder {}", folder.display()))?;
        }
        disk::write(place, text.as_bytes(), Access::Private).with_context(|| format!("writing {}", place.display()))
    }
}

fn read_file(place: Option<&Path>) -> anyhow::Result<Option<File>> {
    let Some(place) = place else { return Ok(None) };
    let read = || -> anyhow::Result<Option<File>> {
        let Some(bytes) = disk::read(place, MAX_BYTES)? else { return Ok(None) };
        let text = String::from_utf8(bytes).context("not UTF-8 text")?;
        // The parser shows the faulty line, which may hold the token; its message alone does not.
        let file = toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: run `tern login` again", e.message()))?;
        Ok(Some(file))
    };
    read().with_context(|| format!("configuration {}", place.display()))
}

/// The text of a CA file.
pub(super) fn read_ca(path: &Path) -> anyhow::Result<String> {
    let read = || -> anyhow::Result<String> {
        let bytes = disk::read(path, MAX_BYTES)?.context("no such file")?;
        Ok(String::from_utf8(bytes)?)
    };
    read().with_context(|| format!("CA certificate {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            server: "https://localhost:8443".into(),
            token: "5ec7e7".into(),
            ca_pem: "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n".into(),
            folder: None,
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("deep/tern/config.toml");
        settings().save(&place).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&place).unwrap());
        assert_eq!(mode & 0o077, 0);
        let loaded = Settings::load(&Environment::default(), Some(&place)).unwrap();
        assert_eq!((loaded.server, loaded.token, loaded.ca_pem), {
            let s = settings();
            (s.server, s.token, s.ca_pem)
        });
        assert_eq!(loaded.folder.unwrap(), folder.path().join("deep/tern"));
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("config.toml");
        settings().save(&place).unwrap();
        let environment = Environment { token: Some("other".into()), ..Environment::default() };
        let loaded = Settings::load(&environment, Some(&place)).unwrap();
        assert_eq!((loaded.token.as_str(), loaded.server.as_str()), ("other", "https://localhost:8443"));
    }

    #[test]
    fn a_broken_file_is_told_without_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("config.toml");
        let load = |text: &str| {
            disk::write(&place, text.as_bytes(), Access::Private).unwrap();
            format!("{:#}", Settings::load(&Environment::default(), Some(&place)).err().unwrap())
        };
        for text in ["token = \"5ec7e7", "token = 5ec7e7", "tokenn = \"5ec7e7\""] {
            let error = load(text);
            assert!(error.contains("tern login") && !error.contains("5ec7e7\""), "{error}");
        }
        let nothing = Settings::load(&Environment::default(), Some(&folder.path().join("none"))).err().unwrap();
        assert!(nothing.to_string().contains("tern login"));
    }

    #[test]
    fn the_flag_goes_before_the_variable_and_that_before_home() {
        let mut environment = Environment { config_home: Some("/h/.config".into()), ..Environment::default() };
        assert_eq!(environment.config_file(None).unwrap(), Path::new("/h/.config/tern/config.toml"));
        environment.config = Some("/v".into());
        assert_eq!(environment.config_file(None).unwrap(), Path::new("/v"));
        assert_eq!(environment.config_file(Some(Path::new("/f"))).unwrap(), Path::new("/f"));
    }
}
