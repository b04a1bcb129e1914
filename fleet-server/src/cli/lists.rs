//! Changes to a team's signed list: made here, signed here, proposed to the server, which publishes what has enough
//! signatures.

use std::io;

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;
use tern_protocol::{
    keys::{PublicKey, SigningKey},
    standing::Standing,
};

use super::{
    args,
    client::{CallError, Client},
    config::{Environment, Settings},
    keys,
    output::{self, Printer},
    proposals,
    record::Record,
    versions::{self, Edit, Step, Vouchers},
};
use crate::{
    forms::{
        TeamMetadata,
        proposals::{ListChange, ProposalDetail, ProposalOrder, ProposalRow},
    },
    proposals::{Envelope, ProposalState, Signature, message},
    repository::{RoleKind, TeamRole},
};

/// How often the list is signed anew when another publisher was faster.
const TRIES: usize = 5;

/// Who signs a role's list here.
pub(super) struct Signer {
    pub role: TeamRole,
    pub keys: Vec<SigningKey>,
    /// What the operator called the keys.
    named: String,
    trusted: Vec<PublicKey>,
    accept_existing: bool,
    record: Record,
}

impl Signer {
    pub(super) fn load(
        order: &args::Signing,
        role: TeamRole,
        environment: &Environment,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let folder = settings.folder.as_deref();
        let keys = keys::load(&order.keys, environment, folder)?;
        let first = keys.iter().map(|key| key.public().id()).min().context("there is no key to sign with")?;
        let record = Record::load(folder, &role, &first)?;
        let trusted = order.trusted_keys.clone();
        let named: Vec<_> = order.keys.iter().map(|key| format!("--key {}", key.display())).collect();
        let named = if named.is_empty() { "the usual release key".to_owned() } else { named.join(", ") };
        Ok(Self { role, keys, named, trusted, accept_existing: order.accept_existing, record })
    }

    /// Somebody who proposes and signs nothing: those who sign look at what is there.
    pub(super) fn without_keys(role: TeamRole) -> anyhow::Result<Self> {
        let record = Record::load(None, &role, &tern_protocol::keys::KeyId(String::new()))?;
        let (keys, trusted, named) = (Vec::new(), Vec::new(), String::new());
        Ok(Self { role, keys, named, trusted, accept_existing: true, record })
    }

    pub(super) fn vouchers(&self) -> Vouchers<'_> {
        let own = self.keys.iter().map(SigningKey::public).collect();
        let (record, trusted) = (&self.record, &self.trusted);
        Vouchers { record, own, trusted, accept_existing: self.accept_existing }
    }

    /// Refuses to go on with a key that counts for nothing, before anything is uploaded, shown or signed.
    pub(super) fn counts(&self, served: &TeamMetadata) -> anyhow::Result<()> {
        // A server of before did not say which do.
        let is_stranger = |key: &&SigningKey| !served.keys.is_empty() && !served.keys.contains(&key.public().id());
        let Some(stranger) = self.keys.iter().find(is_stranger) else { return Ok(()) };
        let wanted = match self.role.kind {
            RoleKind::Release => "a release key",
            RoleKind::Candidate => "the candidate key",
        };
        bail!(
            "{} is key {}, which is none of those that count for {}'s list: name {wanted} of team {} with --key, see \
             `tern key list`",
            self.named,
            stranger.public().id(),
            self.role,
            self.role.team
        )
    }

    /// The signatures over a list; that it was signed here is remembered before.
    pub(super) fn sign(&mut self, list: &Value) -> anyhow::Result<Vec<Signature>> {
        let message = message(list)?;
        if !self.keys.is_empty() {
            self.record.add(&versions::targets(list))?;
        }
        let sign = |key: &SigningKey| Signature { keyid: key.public().id(), sig: hex::encode(key.sign(&message)) };
        Ok(self.keys.iter().map(sign).collect())
    }

    /// Remembers what a list that is published and was found good says of models.
    pub(super) fn saw(&mut self, list: Option<&Value>) -> anyhow::Result<()> {
        let Some(list) = list.and_then(Value::as_object) else { return Ok(()) };
        if self.keys.is_empty() { Ok(()) } else { self.record.saw(versions::standings(list)?) }
    }
}

/// Where a role's list is.
pub(super) fn metadata_path(role: &TeamRole) -> String {
    format!("/api/v1/teams/{}/metadata?role={}", role.team, role.kind.as_str())
}

/// Has the next list differ from the present one by `edit`; none where it says so already.
pub(super) async fn change(
    client: &Client,
    signer: &mut Signer,
    edit: &Edit,
    reason: &str,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Option<ProposalDetail>> {
    for _ in 0..TRIES {
        let served: TeamMetadata = client.get(&metadata_path(&signer.role)).await?;
        signer.counts(&served)?;
        let next = match versions::next(&signer.role, &served, edit, &signer.vouchers(), printer.now())? {
            Step::Listed => return Ok(None),
            Step::Sign(next) => next,
        };
        if !signer.keys.is_empty() {
            for line in versions::on_trust(&signer.role, &served, &signer.vouchers())? {
                printer.note(&format!("warning: signed too, on the word of others: {line}"))?;
            }
        }
        match propose(client, signer, &next, reason).await {
            Ok(made) => {
                // What was published before this counts from now on; not sooner, for a liar must not spoil the record.
                if made.row.state != ProposalState::Published {
                    signer.saw(served.signed.as_ref())?;
                }
                return Ok(Some(made));
            }
            Err(error) if is(&error, "metadata-moved") || is(&error, "proposal-void") => {
                printer.step("someone else published meanwhile: signing again on top of it")?;
            }
            Err(error) => return Err(error),
        }
    }
    bail!("others published at the same moment {TRIES} times: run it again")
}

/// Signs a list and proposes it.
pub(super) async fn propose(
    client: &Client,
    signer: &mut Signer,
    list: &Value,
    reason: &str,
) -> anyhow::Result<ProposalDetail> {
    let signatures = signer.sign(list)?;
    let envelope = Envelope { signatures, signed: list.clone() };
    let order = ProposalOrder { role: signer.role.kind, reason: reason.to_owned(), envelope };
    let made: ProposalDetail = client.post(&format!("/api/v1/teams/{}/proposals", signer.role.team), &order).await?;
    if made.row.state == ProposalState::Published {
        signer.saw(Some(list))?;
    }
    Ok(made)
}

pub(super) fn is(error: &anyhow::Error, code: &str) -> bool {
    error.downcast_ref::<CallError>().is_some_and(|error| error.is(code))
}

/// The open proposal of this list that wants the same already, which is said then.
pub(super) async fn waiting(
    client: &Client,
    signer: &Signer,
    wants: impl Fn(&ListChange) -> bool,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Option<ProposalRow>> {
    let rows = proposals::of_team(client, Some(&signer.role.team)).await?;
    let is_this =
        |row: &ProposalRow| row.state == ProposalState::Open && row.role == signer.role.kind && wants(&row.change);
    let found = rows.into_iter().find(is_this);
    if let Some(row) = &found {
        printer.step(&format!("proposal {} proposes this already, and nothing was signed: {}", row.id, row.reason))?;
    }
    Ok(found)
}

/// Says what came of a signature: published, and what that made void, or what is still missing and who does what.
pub(super) async fn tell(
    client: &Client,
    row: &ProposalRow,
    signer: &Signer,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    if row.state == ProposalState::Published {
        let have = format!("{} of {} signatures, published", row.signatures.len(), row.threshold);
        printer.step(&format!("signed version {} of {}'s list: {have}", row.version, signer.role))?;
        return tell_void(client, row, printer).await;
    }
    if let Some(stuck) = &row.stuck {
        return printer.step(&format!("proposal {} cannot be published: {stuck}", row.id));
    }
    let have = format!("{} of {} signatures", row.signatures.len(), row.threshold);
    let also = row.wants.as_ref().filter(|_| row.signatures.len() as u64 >= row.threshold);
    let wants = also.map_or(String::new(), |wants| format!(", {wants} is needed"));
    let what = match row.change.adds.as_slice() {
        [model] => model.to_string(),
        _ => format!("--proposal {}", row.id),
    };
    printer.step(&format!("draft: {have}{wants}; another holder of a release key runs `tern model approve {what}`"))
}

/// Names the proposals whose signatures count for nothing since this one is published.
async fn tell_void(client: &Client, row: &ProposalRow, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    // It is published whether or not this can be told.
    let Ok(rows) = proposals::of_team(client, Some(&row.team)).await else { return Ok(()) };
    let is_void =
        |other: &&ProposalRow| (other.state, other.role, other.ended) == (ProposalState::Void, row.role, row.ended);
    for other in rows.iter().filter(is_void) {
        let (id, what) = (other.id, proposals::changes(&other.change));
        printer.note(&format!("warning: that made proposal {id} void ({what}): have it proposed and signed again"))?;
    }
    Ok(())
}

/// The result for programs.
#[derive(Debug, Serialize)]
struct Changed {
    role: String,
    /// None where the list says it already.
    proposal: Option<ProposalRow>,
}

/// `tern model recall`.
pub(super) async fn recall(
    order: &args::Recall,
    environment: &Environment,
    settings: &Settings,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let role = TeamRole::release(order.model.name.team.clone());
    let (model, reason) = (order.model.clone(), order.reason.clone());
    anyhow::ensure!(
        reason.len() <= tern_protocol::standing::MAX_REASON,
        "the reason is too long: use at most {} bytes",
        tern_protocol::standing::MAX_REASON
    );
    let edit = Edit::Recall { model, reason, on_recall: order.on_recall, unlisted: order.unlisted };
    let wants = |change: &ListChange| change.recalls.iter().any(|(model, _)| *model == order.model);
    let signer = Signer::load(&order.signing, role, environment, settings)?;
    let done = format!("{} is recalled: no device may run it any more", order.model);
    carry_out(signer, &edit, wants, &order.reason, &done, settings, printer).await
}

/// `tern model floor`.
pub(super) async fn floor(
    order: &args::Floor,
    environment: &Environment,
    settings: &Settings,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let lowest = order.lowest()?;
    let role = TeamRole::release(lowest.name.team.clone());
    let (model, version) = (lowest.name.clone(), lowest.version.clone());
    let done = format!("no version of {model} below {version} may run any more");
    let edit = Edit::Floor { model, version, unlisted: order.unlisted };
    let signer = Signer::load(&order.signing, role, environment, settings)?;
    let wants = |change: &ListChange| change.floors.contains(&lowest);
    carry_out(signer, &edit, wants, &order.reason, &done, settings, printer).await
}

/// `tern model sign`.
pub(super) async fn sign_again(
    order: &args::Sign,
    environment: &Environment,
    settings: &Settings,
    input: &mut dyn io::Read,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let team = order.team.clone();
    let role = if order.candidates { TeamRole::candidate(team) } else { TeamRole::release(team) };
    let mut signer = Signer::load(&order.signing, role, environment, settings)?;
    let client = Client::new(settings)?;
    let served: TeamMetadata = client.get(&metadata_path(&signer.role)).await?;
    signer.counts(&served)?;
    let next = versions::next(&signer.role, &served, &Edit::Nothing, &signer.vouchers(), printer.now())?;
    let Step::Sign(next) = next else { bail!("{} has no list yet: publish a version", signer.role) };
    show(&next, printer)?;
    if !order.yes {
        output::confirm(input, printer)?;
    }
    let made = propose(&client, &mut signer, &next, &order.reason).await?;
    let done = format!("the list of {} is signed again", signer.role);
    finish(&client, &signer, Some(made.row), &done, printer).await
}

/// Everything that a list says.
pub(super) fn show(list: &Value, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    for (path, target) in versions::targets(list) {
        printer.step(&format!("lists {path}: {}", target["hashes"]["sha256"].as_str().unwrap_or_default()))?;
    }
    for (model, standing) in versions::standings(list.as_object().context("invariant: a list is an object")?)? {
        for line in standing_words(&Standing::default(), &standing) {
            printer.step(&format!("{model}: {line}"))?;
        }
    }
    Ok(())
}

async fn carry_out(
    mut signer: Signer,
    edit: &Edit,
    wants: impl Fn(&ListChange) -> bool,
    reason: &str,
    done: &str,
    settings: &Settings,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let client = Client::new(settings)?;
    if let Some(waits) = waiting(&client, &signer, wants, printer).await? {
        return finish(&client, &signer, Some(waits), done, printer).await;
    }
    let made = change(&client, &mut signer, edit, reason, printer).await?;
    finish(&client, &signer, made.map(|made| made.row), done, printer).await
}

/// Says what came of it; `row` is none where the list says it already.
async fn finish(
    client: &Client,
    signer: &Signer,
    row: Option<ProposalRow>,
    done: &str,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    if let Some(row) = &row {
        tell(client, row, signer, printer).await?;
    }
    let is_done = row.as_ref().is_none_or(|row| row.state == ProposalState::Published);
    let changed = Changed { role: signer.role.to_string(), proposal: row };
    printer.result(&changed, |p| if is_done { p.line(done) } else { Ok(()) })
}

/// What a team says of a model, in words.
pub(super) fn standing_words(before: &Standing, after: &Standing) -> Vec<String> {
    let new = after.recalled.iter().filter(|(version, _)| !before.recalled.contains_key(*version));
    let mut words: Vec<_> = new.map(|(version, why)| format!("recalls {version}: {why}")).collect();
    if after.floor != before.floor {
        let floor = after.floor.as_ref().map_or("none".into(), ToString::to_string);
        words.push(format!("no version below {floor} may run"));
    }
    if after.on_recall != before.on_recall {
        words.push(format!("devices that run such a version {}", proposals::on_recall(after.on_recall)));
    }
    for (version, why) in &after.recalled {
        if before.recalled.get(version).is_some_and(|known| known != why) {
            words.push(format!("says why {version} is recalled in other words: {why}"));
        }
    }
    words
}
