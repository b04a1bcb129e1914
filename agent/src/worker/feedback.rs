//! `POST …/feedback`: labels that come after their predictions, by request id and row.
//!
//! Each label is answered by itself. The status is 200 where at least one request is remembered, 404 where none is, and 400
//! where the model's contract names no prediction, for then there is nothing to be right or wrong. A request is remembered
//! by the version that answered it; the newest one that knows the id decides, also whether its output could have said the label
//! at all. A label that it could not is a mistake of whoever sent it, and leaves the row open for the right one.

use hyper::{StatusCode, body::Incoming, header::HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{failure::Failure, head::Few, infer, label::Label, predictions::Labelled, service::Service, slots::Held};
use crate::clock::Moment;

/// Most labels in one request: as many as rows in an inference.
const MAX_ITEMS: usize = 4096;

#[derive(Deserialize)]
struct Body {
    feedback: Few<Item, MAX_ITEMS>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    #[serde(default)]
    row: u32,
    label: Label,
}

/// What became of one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    AlreadyLabelled,
    BadLabel,
    UnknownRow,
    UnknownId,
    NoPrediction,
}

impl Fate {
    pub(super) const ALL: [Self; 6] =
        [Self::Accepted, Self::AlreadyLabelled, Self::BadLabel, Self::UnknownRow, Self::UnknownId, Self::NoPrediction];

    /// Its name in answers and in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AlreadyLabelled => "already-labelled",
            Self::BadLabel => "bad-label",
            Self::UnknownRow => "unknown-row",
            Self::UnknownId => "unknown-id",
            Self::NoPrediction => "no-prediction",
        }
    }
}

/// The answer to a feedback request.
pub(super) async fn feedback(
    service: &Service,
    (model, version): (&str, Option<&str>),
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<(StatusCode, Value), Failure> {
    // A wrong name is told before the body is read.
    service.slots.find(model, version)?;
    let (bytes, _space) = infer::read(service, headers, body).await?;
    let body: Body =
        serde_json::from_slice(&bytes).map_err(|error| Failure::Malformed(format!("malformed feedback: {error}")))?;
    if body.feedback.0.is_empty() {
        return Err(Failure::Malformed("feedback holds no label".into()));
    }
    // Whoever has an answer may label it at once, though it is remembered a moment after it was given.
    service.queue.folded().await;
    let versions = service.slots.hold_all(model, version)?;
    let now = Moment::now();
    let fates: Vec<Fate> = body.feedback.0.iter().map(|item| judge(&versions, item, now)).collect();
    fates.iter().for_each(|fate| service.count_label(*fate));
    let is_known = |fate: &Fate| !matches!(fate, Fate::UnknownId | Fate::NoPrediction);
    let status = match fates.iter().any(is_known) {
        true => StatusCode::OK,
        false if fates.contains(&Fate::NoPrediction) => StatusCode::BAD_REQUEST,
        false => StatusCode::NOT_FOUND,
    };
    let one = |(item, fate): (&Item, &Fate)| json!({"id": item.id, "row": item.row, "status": fate.name()});
    let items: Vec<Value> = body.feedback.0.iter().zip(&fates).map(one).collect();
    Ok((status, json!({"model_name": model, "feedback": items})))
}

fn judge(versions: &[Held], item: &Item, now: Moment) -> Fate {
    let mut can_be_labelled = false;
    for held in versions {
        let loaded = &held.loaded;
        if !loaded.ledger.watch().has_label() {
            continue;
        }
        can_be_labelled = true;
        let label = loaded.ledger.watch().told(&item.label.0);
        let row = usize::try_from(item.row).unwrap_or(usize::MAX);
        match loaded.predictions.label(&item.id, row, label.as_deref(), now) {
            Labelled::Unknown => {}
            Labelled::NoRow => return Fate::UnknownRow,
            Labelled::Bad => return Fate::BadLabel,
            Labelled::Already => return Fate::AlreadyLabelled,
            Labelled::Accepted { is_error } => {
                loaded.counters.labelled(is_error);
                return Fate::Accepted;
            }
        }
    }
    if can_be_labelled { Fate::UnknownId } else { Fate::NoPrediction }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_hold_an_id_and_a_label_and_rows_begin_at_0() {
        let json = r#"{"feedback":[{"id":"a","label":3},{"id":"b","row":2,"label":null,"note":1}]}"#;
        let body: Body = serde_json::from_str(json).unwrap();
        assert_eq!((body.feedback.0[0].row, body.feedback.0[1].row), (0, 2));
        for wrong in [r#"{"id":"a"}"#, r#"{"label":1}"#, r#"{"id":"a","label":1,"row":-1}"#] {
            assert!(serde_json::from_str::<Item>(wrong).is_err(), "{wrong}");
        }
    }
}
