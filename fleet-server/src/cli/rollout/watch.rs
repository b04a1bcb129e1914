//! `tern rollout status`: once, or change by change until the rollout is over.

use std::{collections::BTreeMap, time::Duration};

use tern_protocol::ids::DeviceId;

use super::{
    super::{
        client::{CallError, Client},
        output::Printer,
    },
    NotWell,
    args::Status,
    detail, history, show,
};
use crate::{clock::Moment, forms::rollouts::RolloutDetail};

/// Shortest pause before the server is asked again.
const POLL: Duration = Duration::from_millis(500);
/// The pause in times of the answer: a large fleet costs the server a look at every device.
const ANSWERS: u32 = 4;
/// A server that is restarted is waited for so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn status(client: &Client, order: &Status, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let last = if order.watch { watch(client, order, printer).await? } else { detail(client, &order.id).await? };
    if !order.watch || printer.is_json() {
        printer.result(&last, |p| show::detail(&last, p))?;
    } else {
        printer.line(&show::summary(&last.row))?;
        printer.line(&show::tally(&last.evidence.tally))?;
    }
    NotWell::check(&last.row)
}

/// Prints changes until the rollout has nothing more to demand.
async fn watch(client: &Client, order: &Status, printer: &mut Printer<'_>) -> anyhow::Result<RolloutDetail> {
    let began = Moment::now();
    let mut seen = Seen::default();
    let mut unanswered: Option<Moment> = None;
    loop {
        let asked = Moment::now();
        match look(client, order, &mut seen, printer).await {
            Ok(found) if found.row.closed.is_some() => return Ok(found),
            Ok(_) => unanswered = None,
            Err(error) if is_passing(&error) => {
                if unanswered.get_or_insert_with(Moment::now).elapsed() > PATIENCE {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        if order.timeout.is_some_and(|most| began.elapsed() >= most) {
            return Err(NotWell::timed_out(&order.id));
        }
        tokio::time::sleep(POLL.max(asked.elapsed() * ANSWERS)).await;
    }
}

/// Whether the server may answer again by itself.
fn is_passing(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<CallError>(),
        Some(CallError::Unreachable { .. } | CallError::TimedOut { .. } | CallError::Cut { .. })
    )
}

/// What was printed before.
#[derive(Default)]
struct Seen {
    history: i64,
    devices: BTreeMap<DeviceId, String>,
}

async fn look(
    client: &Client,
    order: &Status,
    seen: &mut Seen,
    printer: &mut Printer<'_>,
) -> anyhow::Result<RolloutDetail> {
    let found = detail(client, &order.id).await?;
    for line in history(client, &order.id, seen.history).await? {
        seen.history = seen.history.max(line.number);
        printer.step(&show::happened(&line))?;
    }
    for device in &found.rows {
        let code = device.code.map(|code| format!(" ({})", code.as_str())).unwrap_or_default();
        let stands = format!("{}{code}", device.stands);
        let before = seen.devices.insert(device.device.clone(), stands.clone());
        // Where nobody has been assigned yet there is nothing to tell.
        if device.assigned.is_some() && before.as_ref() != Some(&stands) {
            printer.step(&format!("{:8}  {}: {stands}", "", device.device))?;
        }
    }
    Ok(found)
}
