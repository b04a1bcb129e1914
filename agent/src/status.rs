//! `tern-agent status`: asks the running agent through its control socket, and shows the answer to people or programs.

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    control::{StatusPage, socket::STATUS},
    sources::SourcePage,
    telemetry::Counts,
};

const PATIENCE: Duration = Duration::from_secs(5);
const MAX_ANSWER: u64 = 1 << 20;

/// The running agent's answer: one JSON document.
///
/// # Errors
/// Where no agent answers on `socket`.
pub fn ask(socket: &Path) -> anyhow::Result<String> {
    ask_line(socket, STATUS)
}

/// The running agent's answer to another question than that for its status.
pub(crate) fn ask_line(socket: &Path, question: &str) -> anyhow::Result<String> {
    let connect = UnixStream::connect(socket);
    let mut stream = connect.with_context(|| format!("no agent answers on {}; is it running?", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    writeln!(stream, "{question}").context("ask the agent")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).context("the agent's answer")?;
    if answer.trim().is_empty() {
        bail!("the agent gave no answer; it may be leaving");
    }
    Ok(answer.trim_end().to_owned())
}

/// What is wrong with the places that are asked; nothing where all work.
fn places(sources: &[SourcePage], equivocations: u64) -> String {
    let mut text = String::new();
    for source in sources.iter().filter(|source| source.last_error.is_some()) {
        let why = source.last_error.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{:<11} {} failed {} times, last: {why}", "source", source.address, source.failures);
    }
    if equivocations > 0 {
        let what = "timestamps came under the version of another: replace the key of timestamp";
        let _ = writeln!(text, "{:<11} {} {what}", "trust", equivocations);
    }
    text
}

/// The answer for people.
///
/// # Errors
/// Where the answer is that of another agent version and lacks what is shown.
pub fn show(answer: &str) -> anyhow::Result<String> {
    let page: StatusPage = serde_json::from_str(answer).context("the agent's answer; is it of another version?")?;
    let mut text = String::new();
    let link = match (page.link.connected, &page.link.last_error) {
        (true, _) => "connected".to_owned(),
        (false, Some(why)) => format!("not connected: {why}"),
        (false, None) => "connecting".to_owned(),
    };
    let worker = match (page.worker.pid, &page.worker.last_death) {
        (Some(pid), None) => format!("pid {pid}"),
        (Some(pid), Some(cause)) => format!("pid {pid}; died {} times, last: {cause}", page.worker.deaths),
        (None, cause) => format!("not running: {}", cause.as_deref().unwrap_or("starting")),
    };
    let tcp = page.infer_tcp.map_or_else(|| "off".to_owned(), |a| format!("http://{a}"));
    let rows = [
        ("device", format!("{} in fleet {}", page.device, page.fleet)),
        ("agent", format!("{} since {}, pid {}", page.agent_version, page.since, page.pid)),
        ("server", link),
        ("worker", worker),
        ("inference", format!("{}, {tcp}", page.infer_socket.display())),
        ("generation", page.twin.generation.to_string()),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<11} {value}");
    }
    let outbox = &page.outbox;
    let daily =
        outbox.written_bytes_per_day.map_or(String::new(), |bytes| format!(", writes {} KiB a day", bytes >> 10));
    let (waiting, offered, watermark, kib) = (outbox.waiting, outbox.offered, outbox.watermark, outbox.bytes >> 10);
    let found = format!("{waiting} rows wait, {offered} offered beyond watermark {watermark}, {kib} KiB{daily}");
    let _ = writeln!(text, "{:<11} {found}", "outbox");
    let lost = outbox.fault.iter().map(|fault| ("statistics", fault.clone()));
    let errors = page.fault.into_iter().map(|fault| ("installs", fault));
    let refused = page.twin.last_error.iter().map(|e| ("refused", format!("{}: {} ({}×)", e.code, e.message, e.count)));
    for (name, value) in errors.chain(lost).chain(refused) {
        let _ = writeln!(text, "{name:<11} {value}");
    }
    text.push_str(&places(&page.sources, page.equivocations));
    if !page.worker.lacking.is_empty() {
        let _ = writeln!(text, "{:<11} lacks {}", "sandbox", page.worker.lacking.join("; "));
    }
    for model in &page.twin.models {
        let version = |v: &Option<tern_protocol::ids::Version>| v.as_ref().map_or("-".to_owned(), ToString::to_string);
        let tally = page.inferences.get(&model.model).copied().unwrap_or_default();
        let state = serde_json::to_value(model.state).ok().and_then(|v| v.as_str().map(str::to_owned));
        let _ = writeln!(
            text,
            "\n{}\n  answers {}, demanded {}, {} since {}; {} answered, {} failed",
            model.model,
            version(&model.version),
            version(&model.desired),
            state.unwrap_or_default(),
            model.since,
            tally.answered,
            tally.failed,
        );
        let its = page.outbox.counted.iter().filter(|(version, _)| version.name == model.model);
        let mut counted = Counts::default();
        its.for_each(|(_, counts)| counted.add(counts));
        let Counts { rows, inferences, errors, labels, .. } = counted;
        let _ = writeln!(text, "  counted {rows} rows, {inferences} inferences, {errors} errors, {labels} labels");
        if let Some(error) = &model.last_error {
            let _ = writeln!(text, "  refused {}: {}: {}", version(&error.version), error.code, error.message);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_shown_while_it_fails_and_two_timestamps_of_one_version_always() {
        let source = |failures, last_error: Option<&str>| SourcePage {
            address: "https://cache.example:8443".into(),
            failures,
            passed_over: last_error.is_some(),
            last_error: last_error.map(str::to_owned),
        };
        assert_eq!(places(&[source(0, None), source(3, None)], 0), "");
        let shown = places(&[source(2, Some("cut"))], 1);
        assert!(shown.contains("https://cache.example:8443 failed 2 times, last: cut\n"), "{shown}");
        assert!(shown.contains("1 timestamps came under the version of another"), "{shown}");
    }
}
