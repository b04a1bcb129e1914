//! `tern model proposals` and `withdraw`.

use tern_protocol::{ids::TeamId, standing::OnRecall};

use super::{client::Client, output::Printer};
use crate::{
    forms::{
        Page,
        proposals::{ListChange, ProposalDetail, ProposalRow, Withdrawal},
    },
    proposals::ProposalState,
};

pub(super) async fn list(client: &Client, team: Option<&TeamId>, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let items = of_team(client, team).await?;
    let page = Page { items, next: None };
    printer.result(&page, |p| {
        let rows = page.items.iter().map(|row| cells(row, p)).collect();
        let header = ["PROPOSAL", "LIST", "CHANGES", "STATE", "BY", "MADE", "REASON"];
        p.table(&header, rows, "no proposals: `tern model publish` makes one where more people must sign")
    })
}

pub(super) async fn of_team(client: &Client, team: Option<&TeamId>) -> anyhow::Result<Vec<ProposalRow>> {
    let team = team.map(TeamId::as_str);
    let query: Vec<_> = team.iter().map(|team| ("team", *team)).collect();
    client.list("/api/v1/proposals", &query).await
}

fn cells(row: &ProposalRow, printer: &Printer<'_>) -> Vec<String> {
    let state = match (row.state, &row.wants, &row.ended_why) {
        (ProposalState::Open, ..) if let Some(stuck) = &row.stuck => format!("stuck: {stuck}"),
        (ProposalState::Open, Some(wants), _) => format!("open: {wants}"),
        (state, _, Some(why)) => format!("{}: {why}", state.as_str()),
        (state, ..) => state.as_str().to_owned(),
    };
    vec![
        row.id.to_string(),
        format!("{} {} v{}", row.team, row.role.as_str(), row.version),
        changes(&row.change),
        state,
        row.author.clone(),
        printer.when(row.created),
        row.reason.clone(),
    ]
}

/// What a proposal changes, in a few words.
pub(super) fn changes(change: &ListChange) -> String {
    let adds = change.adds.iter().map(|model| format!("+ {model}"));
    let recalls = change.recalls.iter().map(|(model, _)| format!("recalls {model}"));
    let floors = change.floors.iter().map(|model| format!("floor {model}"));
    let gone = change.removes.iter().filter(|model| change.recalls.iter().all(|(recalled, _)| recalled != *model));
    let removes = gone.map(|model| format!("- {model}"));
    let words: Vec<_> = adds.chain(recalls).chain(floors).chain(removes).collect();
    if words.is_empty() { "a later end".into() } else { words.join(", ") }
}

pub(super) async fn withdraw(
    client: &Client,
    id: i64,
    reason: String,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let path = format!("/api/v1/proposals/{id}/withdraw");
    let withdrawn: ProposalDetail = client.post(&path, &Withdrawal { reason }).await?;
    printer.result(&withdrawn, |p| p.line(&format!("proposal {id} is withdrawn")))
}

/// What devices do, as a verb.
pub(super) fn on_recall(what: OnRecall) -> &'static str {
    match what {
        OnRecall::Stop => "stop it",
        OnRecall::Fallback => "fall back to the newest version that may run",
    }
}
