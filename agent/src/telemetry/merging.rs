//! Two windows of one version become one: resolution is lost, counts are not.

use tern_protocol::report::v1::{Clock, ErrorCount, Window};
use tern_stats::window;

/// Adds a later window of the same model, version, contract and boot. The sum keeps the earlier one's number.
///
/// Windows of one version have one shape, or none where only requests failed; such a one takes over the other's. Where
/// shapes differ all the same, the later one's sums are given up and the rest of it counts.
pub fn merge(into: &mut Window, later: &Window) {
    add_counts(into, later);
    add_labels(into, later);
    if is_blind(into) {
        into.features.clone_from(&later.features);
        into.outputs.clone_from(&later.outputs);
        into.confidence.clone_from(&later.confidence);
    } else if !is_blind(later) && !add_sums(into, later) {
        tracing::warn!(model = %later.model, window = later.number, "sums of another shape are given up");
    }
    if let (Ok(mut latency), Ok(more)) = (into.latencies(), later.latencies()) {
        latency.merge(&more);
        into.latency = latency.to_bytes();
    }
}

fn is_blind(window: &Window) -> bool {
    window.features.is_empty() && window.outputs.is_empty() && window.confidence.is_empty()
}

fn add_sums(into: &mut Window, later: &Window) -> bool {
    // Labels are added already: they may come in fewer bins.
    let sums = |w: &Window| w.sums().map(|sums| window::Window { labels: Vec::new(), ..sums });
    let (Ok(mut ours), Ok(theirs)) = (sums(into), sums(later)) else { return false };
    if ours.merge(&theirs).is_err() {
        return false;
    }
    into.features = ours.features.into_iter().map(Into::into).collect();
    into.outputs = ours.outputs.into_iter().map(Into::into).collect();
    into.confidence = ours.confidence;
    true
}

fn add_labels(into: &mut Window, later: &Window) {
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
