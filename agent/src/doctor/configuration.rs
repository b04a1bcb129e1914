//! The configuration file.

use std::path::Path;

use super::{Finding, reason};
use crate::config::{Config, ConfigError};

pub(super) fn check(path: &Path, loaded: &Result<Config, ConfigError>) -> Finding {
    match loaded {
        Ok(_) if path.exists() => Finding::ok("config", format!("{} is valid", path.display())),
        Ok(_) => Finding::ok("config", format!("{} is absent: every default holds", path.display())),
        Err(error) => Finding::error("config", reason(error), format!("correct {}", path.display())),
    }
}
