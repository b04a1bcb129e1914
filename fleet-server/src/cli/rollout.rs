//! `tern rollout`: make, look, act. The server decides; this says it, and ends with what a script can branch on.
//!
//! Exit codes beyond those of every command: 3 where the rollout was aborted, undone or denied, 4 where it is held or the
//! time to watch is over.

mod args;
mod show;
mod terms;
mod watch;

use serde::Serialize;

pub(super) use args::Rollout;
use args::{Act, Create};

use super::{client::Client, output::Printer};
use crate::{
    forms::{
        Page,
        rollouts::{RolloutDetail, RolloutHistory, RolloutOrder, RolloutPlan, RolloutRow, RolloutVerb},
    },
    rollout::{Phase, RolloutId, Verb},
};

/// The rollout is not where a script wants it: nothing went wrong with the call itself.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub(super) struct NotWell {
    words: String,
    code: u8,
}

impl NotWell {
    /// The exit code of an error: 1 where it is none of these.
    pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
        error.downcast_ref::<Self>().map_or(1, |not_well| not_well.code)
    }

    fn timed_out(id: &RolloutId) -> anyhow::Error {
        Self { words: format!("rollout {id} is not over yet"), code: 4 }.into()
    }

    /// What a script is told of a rollout in this phase.
    fn check(row: &RolloutRow) -> anyhow::Result<()> {
        let held = row.held.as_deref().unwrap_or("a human is asked");
        let (words, code) = match row.phase {
            Phase::Created | Phase::Running | Phase::Paused | Phase::Finished => return Ok(()),
            Phase::Denied | Phase::Aborted | Phase::Undone => (format!("rollout {} is {}", row.id, row.phase), 3),
            Phase::Held => (format!("rollout {} is held: {held}", row.id), 4),
        };
        Err(Self { words, code }.into())
    }
}

pub(super) async fn run(client: &Client, command: Rollout, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let (verb, act) = match command {
        Rollout::Create(order) => return create(client, *order, printer).await,
        Rollout::Plan { id } => return plan(client, &id, printer).await,
        Rollout::Status(order) => return watch::status(client, &order, printer).await,
        Rollout::List => return list(client, printer).await,
        Rollout::Verdicts { id } => return verdicts(client, &id, printer).await,
        Rollout::Start(act) => (Verb::Start, act),
        Rollout::Pause(act) => (Verb::Pause, act),
        Rollout::Resume(act) => (Verb::Resume, act),
        Rollout::Promote(act) => (Verb::Promote, act),
        Rollout::Abort(act) => (Verb::Abort, act),
        Rollout::Undo(act) => (Verb::Undo, act),
        Rollout::Retry(act) => (Verb::Retry, act),
        Rollout::Approve(act) => (Verb::Approve, act),
        Rollout::Deny(act) => (Verb::Deny, act),
    };
    let Act { id, reason } = act;
    let path = format!("/api/v1/rollouts/{id}/{verb}");
    let row: RolloutRow = client.post(&path, &RolloutVerb { reason, if_phase: None }).await?;
    printer.result(&row, |p| p.line(&show::summary(&row)))
}

async fn create(client: &Client, order: Create, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let policy = terms::policy(&order)?;
    policy.check(&order.model.version)?;
    let Create { model, to, reason, start, idempotency_key, .. } = order;
    let form = RolloutOrder { model, selector: to, policy, reason, start };
    let row: RolloutRow = client.post_once("/api/v1/rollouts", &form, idempotency_key.as_deref()).await?;
    printer.result(&row, |p| {
        p.line(&show::summary(&row))?;
        match row.phase {
            Phase::Created => p.note(&format!("look at it with `tern rollout plan {0}`, then start {0}", row.id)),
            _ => p.note(&format!("watch it with `tern rollout status {} --watch`", row.id)),
        }
    })
}

async fn plan(client: &Client, id: &RolloutId, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let plan: RolloutPlan = client.get(&format!("/api/v1/rollouts/{id}/plan")).await?;
    printer.result(&plan, |p| show::plan(&plan, p))
}

async fn list(client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let items: Vec<RolloutRow> = client.list("/api/v1/rollouts", &[]).await?;
    whole(items, printer, show::list)
}

async fn verdicts(client: &Client, id: &RolloutId, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    whole(history(client, id, 0).await?, printer, show::verdicts)
}

async fn history(client: &Client, id: &RolloutId, after: i64) -> anyhow::Result<Vec<RolloutHistory>> {
    let (path, after) = (format!("/api/v1/rollouts/{id}/verdicts"), after.to_string());
    let mut lines = Vec::new();
    client.pages(&path, &[("after", &after)], "after", |page: Vec<RolloutHistory>| lines.extend(page)).await?;
    Ok(lines)
}

async fn detail(client: &Client, id: &RolloutId) -> anyhow::Result<RolloutDetail> {
    client.get(&format!("/api/v1/rollouts/{id}")).await
}

fn whole<T: Serialize>(
    items: Vec<T>,
    printer: &mut Printer<'_>,
    table: impl FnOnce(&[T], &mut Printer<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let page = Page { items, next: None };
    printer.result(&page, |p| table(&page.items, p))
}
