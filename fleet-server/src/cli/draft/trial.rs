//! Runs a model that is being checked: its answers, how long one row takes, how much memory it takes. The first part is the
//! confined child's, the rest the parent's.

use std::{io::Write, time::Duration};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tern_engine::{Limits, Model, Tensor, sandbox, tensor_from_pb, tensor_to_pb};

use crate::{
    cli::confined::{self, Inside, Itself, Order, Said, Work, say},
    clock::Moment,
    wording::size,
};

/// Measuring ends after this even where calls are left.
const MEASURING: Duration = Duration::from_secs(2);
/// No more rows are judged after this.
const JUDGING: Duration = Duration::from_secs(20);
/// Most bytes of answers, as files: a device takes no more of golden vectors.
const MAX_ANSWERS: usize = 64 << 20;
/// Most calls that are measured.
const CALLS: usize = 2_000;

/// Work without the files: the model, then the inputs of each case, so many of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct Header {
    /// Inputs of each case.
    pub cases: Vec<usize>,
    /// The first so many cases are run again and again to measure; those after them only as far as time allows.
    pub measured: usize,
}

/// One line that the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Lacking(Vec<String>),
    /// The model does not load, or a case has no answer.
    Refused(String),
    /// Microseconds that loading took.
    Loaded(u64),
    /// The outputs of the next case, each an ONNX tensor in base64.
    Answer(Vec<String>),
    Figures(Figures),
}

/// What running one row costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Figures {
    /// Half of the calls took no longer, in microseconds.
    pub p50_us: u64,
    /// All but one in a hundred took no longer, in microseconds.
    pub p99_us: u64,
    /// Calls measured.
    pub calls: usize,
    /// What the process grew by at most, in bytes; 0 where the kernel does not say.
    pub peak_rss_bytes: u64,
}

/// What came of a model.
#[derive(Debug)]
pub(super) struct Tried {
    pub answers: Vec<Vec<Tensor>>,
    pub load_us: u64,
    pub figures: Figures,
    pub lacking: Vec<String>,
}

/// The child's part.
pub(in crate::cli) fn carry_out(
    header: Header,
    files: Vec<Vec<u8>>,
    inside: Inside,
    to: &mut dyn Write,
) -> anyhow::Result<()> {
    say(&Line::Lacking(inside.lacking), to)?;
    let refused = |why: anyhow::Error| Line::Refused(format!("{why:#}"));
    let mut files = files.into_iter();
    let before = inside.memory.resident_bytes();
    let (bytes, start) = (files.next().context("the model is missing")?, Moment::now());
    let loaded = Model::load(&bytes, &Limits::default());
    drop(bytes);
    let model = match loaded {
        Ok(model) => model,
        Err(error) => return Ok(say(&refused(error.into()), to)?),
    };
    say(&Line::Loaded(micros(start.elapsed())), to)?;
    let (mut measured, mut said, running) = (Vec::new(), 0, Moment::now());
    for (at, inputs) in header.cases.iter().enumerate() {
        if at >= header.measured && running.elapsed() > JUDGING {
            break;
        }
        let inputs: Vec<Tensor> =
            files.by_ref().take(*inputs).map(|bytes| tensor_from_pb(&bytes)).collect::<Result<_, _>>()?;
        match model.run(&inputs) {
            Ok(outputs) => {
                let files: Vec<_> = outputs.iter().map(|tensor| tensor_to_pb(tensor, "")).collect();
                said += files.iter().map(Vec::len).sum::<usize>();
                if said > MAX_ANSWERS && at >= header.measured {
                    break;
                }
                if said > MAX_ANSWERS {
                    return Ok(say(&refused(too_long(header.measured)), to)?);
                }
                say(&Line::Answer(files.iter().map(|file| STANDARD.encode(file)).collect()), to)?;
            }
            Err(error) => return Ok(say(&refused(error.into()), to)?),
        }
        if at < header.measured {
            measured.push(inputs);
        }
    }
    let (p50_us, p99_us, calls) = measure(&model, &measured)?;
    let peak_rss_bytes = inside.memory.peak_bytes().saturating_sub(before);
    Ok(say(&Line::Figures(Figures { p50_us, p99_us, calls, peak_rss_bytes }), to)?)
}

fn too_long(vectors: usize) -> anyhow::Error {
    anyhow::anyhow!(
        "its answers to {vectors} golden vectors take more than {}, which devices do not take: give it smaller outputs",
        size(MAX_ANSWERS as u64)
    )
}

fn measure(model: &Model, cases: &[Vec<Tensor>]) -> anyhow::Result<(u64, u64, usize)> {
    let (start, mut took) = (Moment::now(), Vec::new());
    for inputs in cases.iter().cycle().take(CALLS) {
        let one = Moment::now();
        model.run(inputs)?;
        took.push(micros(one.elapsed()));
        if start.elapsed() >= MEASURING && took.len() >= cases.len() {
            break;
        }
    }
    took.sort_unstable();
    Ok((percentile(&took, 50), percentile(&took, 99), took.len()))
}

/// The nearest-rank percentile of sorted values; 0 of none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Runs the cases in a child and measures the first `measured` of them; those after them may stay without answers where the
/// model is slow.
///
/// # Errors
/// Where the model does not load, gives no answer or takes its process down.
pub(super) async fn run(
    model: Vec<u8>,
    cases: &[Vec<Tensor>],
    measured: usize,
    itself: Option<&Itself>,
) -> anyhow::Result<Tried> {
    let header = Header { cases: cases.iter().map(Vec::len).collect(), measured };
    let files = [model].into_iter().chain(cases.iter().flatten().map(|tensor| tensor_to_pb(tensor, ""))).collect();
    // As a device tries a version, and the time that rows with right answers are given.
    let cpu_seconds = sandbox::TRIAL_CPU_SECONDS + JUDGING.as_secs();
    let order = Order { work: Work::Trial(header), files, cpu_seconds, wall: sandbox::TRIAL_WALL + JUDGING };
    let Said { bytes, end } = confined::run(&order, itself).await;
    let (mut tried, mut is_whole) = (
        Tried {
            answers: Vec::new(),
            load_us: 0,
            figures: Figures { p50_us: 0, p99_us: 0, calls: 0, peak_rss_bytes: 0 },
            lacking: Vec::new(),
        },
        false,
    );
    for line in bytes.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Line::Lacking(what)) => tried.lacking = what,
            Ok(Line::Refused(why)) => bail!("{why}"),
            Ok(Line::Loaded(took)) => tried.load_us = took,
            Ok(Line::Answer(outputs)) => {
                tried.answers.push(outputs.iter().map(|text| tensor(text)).collect::<Result<_, _>>()?)
            }
            Ok(Line::Figures(figures)) => (tried.figures, is_whole) = (figures, true),
            // The last line of one that died.
            Err(_) => {}
        }
    }
    end?;
    if !is_whole || tried.answers.len() < measured.min(cases.len()) {
        bail!("the process that ran the model ended early");
    }
    Ok(tried)
}

fn tensor(text: &str) -> anyhow::Result<Tensor> {
    Ok(tensor_from_pb(&STANDARD.decode(text).context("an answer")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50, 99));
        assert_eq!((percentile(&[7], 99), percentile(&[], 99)), (7, 0));
    }
}
