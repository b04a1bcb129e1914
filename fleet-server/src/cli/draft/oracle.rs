//! Python beside `tern`: onnxruntime's answers, and rows of Parquet files, by a script that this program carries.
//!
//! It is the data scientist's own Python and is not confined, which is said; for a stranger's model it need not be asked. No
//! key is loaded in this command, and Python is not told the token. The script is given on the command line and its order on standard input; nothing is written anywhere.

use std::{io::ErrorKind, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;
use tern_engine::{Tensor, tensor_from_pb, tensor_to_pb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SCRIPT: &str = include_str!("oracle.py");
/// Most time for all answers.
const WALL: Duration = Duration::from_secs(300);
/// Most that is read of what Python says, in bytes.
const MAX_SAID: u64 = 256 << 20;

/// What onnxruntime said.
#[derive(Debug, PartialEq)]
pub(super) enum Oracle {
    /// Its answers, a list of outputs a case, and its version.
    Answers(Vec<Vec<Tensor>>, String),
    /// It was not to be asked.
    Unasked,
    /// It is not there, and why.
    Absent(String),
    /// It is there and has no answer.
    Failed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Missing(String),
    Failed(String),
    #[serde(untagged)]
    Answers {
        answers: Vec<Vec<String>>,
        version: String,
    },
}

/// What onnxruntime answers to each case.
///
/// # Errors
/// Where Python says something else than the script can say, or takes too long.
pub(super) async fn ask(python: &Path, model: &Path, cases: &[Vec<Tensor>]) -> anyhow::Result<Oracle> {
    let text = |tensor: &Tensor| STANDARD.encode(tensor_to_pb(tensor, ""));
    let cases: Vec<Vec<String>> = cases.iter().map(|case| case.iter().map(text).collect()).collect();
    let Some(said) = run(python, &json!({ "model": model, "cases": cases })).await? else {
        return Ok(Oracle::Absent(format!("there is no {}", python.display())));
    };
    match serde_json::from_slice(&said).context("what Python said")? {
        Said::Missing(what) => Ok(Oracle::Absent(what)),
        Said::Failed(what) => Ok(Oracle::Failed(what)),
        Said::Answers { answers, version } => {
            ensure!(answers.len() == cases.len(), "Python answered {} of {} cases", answers.len(), cases.len());
            let tensor = |text: String| -> anyhow::Result<Tensor> {
                Ok(tensor_from_pb(&STANDARD.decode(text).context("an answer of Python")?)?)
            };
            let case = |outputs: Vec<String>| outputs.into_iter().map(tensor).collect::<anyhow::Result<Vec<_>>>();
            Ok(Oracle::Answers(answers.into_iter().map(case).collect::<anyhow::Result<_>>()?, version))
        }
    }
}

/// The first `rows` rows of a Parquet file, as CSV.
///
/// # Errors
/// Where Python, pandas or the file is not there; the message says how to have CSV written.
pub(super) async fn parquet(python: &Path, file: &Path, rows: usize) -> anyhow::Result<Vec<u8>> {
    let how =
        "write it as CSV: python3 -c \"import pandas; pandas.read_parquet('x.parquet').to_csv('x.csv', index=False)\"";
    let said = run(python, &json!({ "parquet": file, "rows": rows })).await?;
    let said =
        said.with_context(|| format!("Parquet is read by Python, and there is no {}; {how}", python.display()))?;
    if said.first() != Some(&b'{') {
        return Ok(said);
    }
    match serde_json::from_slice(&said) {
        Ok(Said::Missing(what)) => bail!("Parquet is read by Python's pandas with pyarrow: {what}; {how}"),
        Ok(Said::Failed(what)) => bail!("{} cannot be read: {what}", file.display()),
        Ok(Said::Answers { .. }) | Err(_) => Ok(said),
    }
}

/// What the script says to an order; nothing where there is no such program.
async fn run(python: &Path, order: &serde_json::Value) -> anyhow::Result<Option<Vec<u8>>> {
    let started = tokio::process::Command::new(python)
        .args(["-c", SCRIPT])
        .env_remove("TERN_TOKEN")
        .env_remove("TERN_KEY_PASSPHRASE_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("starting {}", python.display())),
    };
    let mut input = child.stdin.take().context("Python's input")?;
    let output = child.stdout.take().context("Python's output")?;
    let order = serde_json::to_vec(order)?;
    let talk = async {
        // One that ends early leaves the rest unread: its end says more than the broken pipe.
        let send = async {
            let sent = input.write_all(&order).await;
            drop(input);
            sent
        };
        let mut said = Vec::new();
        let mut output = output.take(MAX_SAID);
        let (_, read) = tokio::join!(send, output.read_to_end(&mut said));
        read.context("reading what Python says")?;
        let status = child.wait().await.context("waiting for Python")?;
        ensure!(status.success(), "Python ended with {status}");
        Ok(said)
    };
    tokio::time::timeout(WALL, talk).await.context("Python took too long")?.map(Some)
}
