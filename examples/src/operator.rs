//! The operator: runs the real `tern` command line and reads its JSON.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::{
    clock::Moment,
    processes::{Program, Programs},
};

/// Longest run of one command.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Somebody with a logged-in command line.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The programs.
    pub programs: Programs,
    /// The command line's own config file.
    pub config: PathBuf,
    /// How long a command that failed is tried again: zero where nothing is supposed to fail.
    pub patience: Duration,
}

impl Operator {
    /// What `tern ARGS --output json` prints.
    ///
    /// # Errors
    /// Where it exits other than with 0 until patience ends, or prints something else; the message quotes it.
    pub async fn tern<T: DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<T> {
        let text = self.run(args).await?;
        serde_json::from_str(&text).with_context(|| format!("reading what `tern {}` printed: {text}", args.join(" ")))
    }

    /// The same of a command whose exit code says how something stands: 3 aborted or unhealthy, 4 held.
    ///
    /// # Errors
    /// As for [`Operator::tern`], at any other code.
    pub async fn standing<T: DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<T> {
        let text = self.patiently(args, &[0, 3, 4]).await?;
        serde_json::from_str(&text).with_context(|| format!("reading what `tern {}` printed: {text}", args.join(" ")))
    }

    /// The same where nobody reads what is printed.
    ///
    /// # Errors
    /// Likewise.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.patiently(args, &[0]).await
    }

    async fn patiently(&self, args: &[&str], good: &[i32]) -> anyhow::Result<String> {
        let started = Moment::now();
        loop {
            match self.attempt(args, good).await {
                Err(error) if started.elapsed() < self.patience => {
                    tracing::info!(%error, "trying again");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                other => return other,
            }
        }
    }

    async fn attempt(&self, args: &[&str], good: &[i32]) -> anyhow::Result<String> {
        let mut command = self.programs.command(Program::Tern);
        command.args(["--output", "json"]).args(args).env("TERN_CONFIG", &self.config);
        let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await.context("waiting for tern")??;
        if !output.status.code().is_some_and(|code| good.contains(&code)) {
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            bail!("`tern {}` ended with {}: {out}{err}", args.join(" "), output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
