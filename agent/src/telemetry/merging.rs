//! Two windows of one version become one: resolution is lost, counts are not.

use tern_protocol::report::v1::{Clock, ErrorCount, Window};
use tern_stats::ShapeMismatch;

/// Adds a later window of the same model, version, contract and boot. The sum keeps the earlier one's number.
///
/// # Errors
/// Where the two hold sums of different shapes; nothing is added then.
pub fn merge(into: &mut Window, later: &Window) -> Result<(), ShapeMismatch> {
    let broken = ShapeMismatch { what: "sketches", expected: 1, found: 0 };
    let (Ok(mut sums), Ok(more)) = (into.sums(), later.sums()) else { return Err(broken) };
    let (Ok(mut latency), Ok(also)) = (into.latencies(), later.latencies()) else { return Err(broken) };
    sums.merge(&more)?;
    latency.merge(&also);
    add_counts(into, later);
    into.latency = latency.to_bytes();
    into.features = sums.features.into_iter().map(Into::into).collect();
    into.outputs = sums.outputs.into_iter().map(Into::into).collect();
    into.confidence = sums.confidence;
    into.feedback = sums.labels.into_iter().map(Into::into).collect();
    Ok(())
}

/// Adds what has no shape: counts, errors, labels. The sums of the later one are given up.
pub fn merge_counts(into: &mut Window, later: &Window) {
    add_counts(into, later);
    if into.feedback.len() < later.feedback.len() {
        into.feedback.resize(later.feedback.len(), Default::default());
    }
    for (ours, theirs) in into.feedback.iter_mut().zip(&later.feedback) {
        (ours.n, ours.errors) = (ours.n.saturating_add(theirs.n), ours.errors.saturating_add(theirs.errors));
    }
}

/// Adds errors by kind.
pub(super) fn add_errors(into: &mut Vec<ErrorCount>, more: &[ErrorCount]) {
    for error in more {
        match into.iter_mut().find(|known| known.kind == error.kind) {
            Some(known) => known.count = known.count.saturating_add(error.count),
            None => into.push(error.clone()),
        }
    }
}

fn add_counts(into: &mut Window, later: &Window) {
    into.start_ms = into.start_ms.min(later.start_ms);
    into.end_ms = into.end_ms.max(later.end_ms);
    if later.clock == Clock::Floored {
        into.clock = Clock::Floored;
    }
    let (ours, theirs) = (&mut into.violations, &later.violations);
    let sums = [
        (&mut into.inferences, later.inferences),
        (&mut into.rows, later.rows),
        (&mut ours.rejected, theirs.rejected),
        (&mut ours.clamped, theirs.clamped),
        (&mut ours.flagged, theirs.flagged),
        (&mut into.system.cpu_ms, later.system.cpu_ms),
        (&mut into.system.written_bytes, later.system.written_bytes),
    ];
    for (sum, more) in sums {
        *sum = sum.saturating_add(more);
    }
    add_errors(&mut into.errors, &later.errors);
    into.system.rss_bytes = later.system.rss_bytes;
    into.system.disk_free_bytes = later.system.disk_free_bytes;
    let hotter = |a: f32, b: f32| a.max(b);
    into.system.temperature = match (into.system.temperature, later.system.temperature) {
        (Some(a), Some(b)) => Some(hotter(a, b)),
        (a, b) => a.or(b),
    };
}
