//! `tern model approve`: what another proposes is shown, checked, and signed: exactly that, or nothing.
//!
//! The server is believed in nothing: the list must differ from one that this machine can vouch for in what is shown and
//! in no other thing, manifests and files must have the digests that the list names, and the version is run here.

use std::io;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use tern_protocol::{
    canonical,
    ids::ModelVersion,
    manifest::{FileRole, Manifest},
};

use super::{
    args::Approve,
    check::{self, Report, Subject},
    client::Client,
    config::{Environment, Settings},
    difference::difference,
    lists::{self, Signer},
    login,
    output::{self, Printer},
    proposals,
    versions::{self, Edit, Review, Step, Target},
};
use crate::{
    forms::{
        TeamMetadata, VersionDetail, WhoAmI,
        proposals::{ProposalDetail, SignatureOrder},
    },
    identity::{Permission, Role},
    proposals::ProposalState,
    repository::TeamRole,
    wording::size,
};

/// The result for programs.
#[derive(Debug, Serialize)]
struct Approved {
    proposal: i64,
    state: ProposalState,
    signatures: usize,
    threshold: u64,
    /// What was shown of each version that is listed anew.
    checked: Vec<Checked>,
    /// Why it was signed although checks failed.
    override_reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Checked {
    model: ModelVersion,
    before: Option<ModelVersion>,
    difference: Vec<String>,
    #[serde(flatten)]
    report: Report,
}

/// What is to be signed.
struct Pending {
    list: Value,
    /// The proposal that holds it; none where one is to be made.
    id: Option<i64>,
    reason: String,
}

pub(super) async fn run(
    order: &Approve,
    environment: &Environment,
    settings: &Settings,
    input: &mut dyn io::Read,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let client = Client::new(settings)?;
    let found = find(&client, order).await?;
    if let Found::Proposal(_) = &found {
        may_approve(&client.get("/api/v1/whoami").await?)?;
    }
    let role = match &found {
        Found::Proposal(proposal) => TeamRole { team: proposal.row.team.clone(), kind: proposal.row.role },
        Found::Candidate(target) => TeamRole::release(target.model.name.team.clone()),
    };
    let mut signer = Signer::load(&order.signing, role, environment, settings)?;
    let served: TeamMetadata = client.get(&lists::metadata_path(&signer.role)).await?;
    signer.counts(&served)?;
    let pending = pending(found, &signer, &served, printer)?;
    let review = versions::review(&signer.role, &served, &pending.list, &signer.vouchers(), printer.now())?;
    show_list(&pending, &review, &signer, printer)?;
    let mut checked = Vec::new();
    for target in &review.adds {
        let one = examine(&client, target, &review, environment, printer).await?;
        show(&one, printer)?;
        checked.push(one);
    }
    let failed = checked.iter().map(|one| one.report.failed.len()).sum::<usize>();
    let override_reason = allowed(failed, order, printer)?;
    if !order.yes {
        output::confirm(input, printer)?;
    }
    // Not sooner: what a liar serves must not spoil the record of who says no.
    signer.saw(served.signed.as_ref())?;
    let done = post(&client, &mut signer, &pending, override_reason.clone()).await?;
    lists::tell(&client, &done.row, &signer, printer).await?;
    let approved = Approved {
        proposal: done.row.id,
        state: done.row.state,
        signatures: done.row.signatures.len(),
        threshold: done.row.threshold,
        checked,
        override_reason,
    };
    printer.result(&approved, |p| match approved.state {
        ProposalState::Published => p.line(&format!("proposal {} is published", approved.proposal)),
        _ => Ok(()),
    })
}

/// Refuses who would be refused at the end, before anything is fetched and shown.
fn may_approve(me: &WhoAmI) -> anyhow::Result<()> {
    let may = me.role.parse::<Role>().map_or(true, |role| role.allows(Permission::Approve));
    ensure!(
        may,
        "you are {}, whose token may not approve, so nothing was signed: an approver of the team runs it, with a token \
         and a release key of their own",
        login::who(me)
    );
    Ok(())
}

/// What an operator means.
enum Found {
    Proposal(Box<ProposalDetail>),
    Candidate(Target),
}

async fn find(client: &Client, order: &Approve) -> anyhow::Result<Found> {
    let by_number = async |id: i64| client.get::<ProposalDetail>(&format!("/api/v1/proposals/{id}")).await;
    let model = match (&order.model, order.proposal) {
        (_, Some(id)) => return Ok(Found::Proposal(Box::new(by_number(id).await?))),
        (Some(model), None) => model,
        (None, None) => bail!("name a version or a proposal"),
    };
    let rows = proposals::of_team(client, Some(&model.name.team)).await?;
    let open = rows.iter().filter(|row| row.state == ProposalState::Open && row.change.adds.contains(model));
    match open.collect::<Vec<_>>().as_slice() {
        [one] => return Ok(Found::Proposal(Box::new(by_number(one.id).await?))),
        [] => {}
        more => {
            let numbers: Vec<_> = more.iter().map(|row| row.id.to_string()).collect();
            bail!("proposals {} list {model}: name one with --proposal", numbers.join(", "));
        }
    }
    let detail = version(client, model).await?;
    if !detail.row.signed && detail.row.candidate {
        let bytes = canonical::document(&detail.manifest_json).context("the manifest that the server shows")?;
        let (manifest, length) = (detail.row.manifest, bytes.len() as u64);
        return Ok(Found::Candidate(Target { model: model.clone(), manifest, length }));
    }
    if detail.row.signed {
        bail!("{model} is published already");
    }
    match rows.iter().find(|row| row.change.adds.contains(model)) {
        Some(row) => bail!(
            "proposal {} of {model} is {}, {}: have it proposed again with `tern model publish`",
            row.id,
            row.state.as_str(),
            row.ended_why.as_deref().unwrap_or_default()
        ),
        None => bail!("nobody proposes {model}: its publisher runs `tern model publish`"),
    }
}

async fn version(client: &Client, model: &ModelVersion) -> anyhow::Result<VersionDetail> {
    client.get(&format!("/api/v1/models/{}/{}", model.name, model.version)).await
}

fn pending(found: Found, signer: &Signer, served: &TeamMetadata, printer: &Printer<'_>) -> anyhow::Result<Pending> {
    match found {
        Found::Proposal(proposal) => {
            let (row, list) = (proposal.row, proposal.signed);
            let why = row.ended_why.as_deref().unwrap_or_default();
            let list = list.filter(|_| row.state == ProposalState::Open);
            let list = list.with_context(|| {
                let again = "to be proposed again with `tern model publish`, `recall` or `floor`";
                format!(
                    "proposal {} is {}, {why}: there is nothing to sign; it has {again}",
                    row.id,
                    row.state.as_str()
                )
            })?;
            if let Some(stuck) = row.stuck {
                bail!(
                    "proposal {} cannot be published, so nothing was signed: {stuck}; {} takes it back (`tern model withdraw \
                     --proposal {}`) and proposes it again",
                    row.id,
                    row.author,
                    row.id
                );
            }
            Ok(Pending { list, id: Some(row.id), reason: row.reason })
        }
        Found::Candidate(target) => {
            let reason = format!("release candidate {}", target.model);
            let edit = Edit::List(target);
            match versions::next(&signer.role, served, &edit, &signer.vouchers(), printer.now())? {
                Step::Listed => bail!("it is published already"),
                Step::Sign(list) => Ok(Pending { list, id: None, reason }),
            }
        }
    }
}

/// Everything that the list changes but the versions that it lists anew, which follow one by one.
fn show_list(pending: &Pending, review: &Review, signer: &Signer, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let number = pending.id.map_or("a new proposal".into(), |id| format!("proposal {id}"));
    printer.step(&format!("{number} of {}'s list: {}", signer.role, pending.reason))?;
    for (model, before, after) in &review.standings {
        for words in lists::standing_words(before, after) {
            printer.step(&format!("  {model}: {words}"))?;
        }
    }
    for words in &review.slips {
        printer.note(&format!("warning: {words}"))?;
    }
    for model in &review.withdraws {
        printer.step(&format!("  {model} is listed no more: it can be assigned no more"))?;
    }
    for words in &review.on_trust {
        printer.note(&format!("warning: you sign this too, on the word of others: {words}"))?;
    }
    let is_more = !review.adds.is_empty() || !review.standings.is_empty() || !review.withdraws.is_empty();
    if !is_more {
        printer.step("  nothing changes but its end and who signs it; all that it says:")?;
        lists::show(&pending.list, printer)?;
    }
    printer.step(&format!("  it ends {}", printer.when(review.expires)))
}

/// Fetches a version and the one before, compares, and runs both.
async fn examine(
    client: &Client,
    target: &Target,
    review: &Review,
    environment: &Environment,
    printer: &mut Printer<'_>,
) -> anyhow::Result<Checked> {
    let manifest = manifest(client, target).await?;
    let before = predecessor(&manifest, review);
    let old = match &before {
        Some(target) => Some(self::manifest(client, target).await?),
        None => None,
    };
    let limit = tern_engine::Limits::default().file_bytes;
    let mut fetch = async |file: &tern_protocol::manifest::File| {
        ensure!(file.length.0 <= limit, "{} has {}, more than a model may", file.path, size(file.length.0));
        printer.progress(&format!("fetching {}: {}", file.path, size(file.length.0)));
        client.blob(&file.sha256, file.length.0).await.with_context(|| format!("fetching {}", file.path))
    };
    let model = fetch(manifest.model_file()).await?;
    let reference = match manifest.reference_file() {
        Some(file) => Some(fetch(file).await?),
        None => None,
    };
    let mut golden = Vec::new();
    for file in manifest.files.iter().filter(|file| file.role == FileRole::Golden) {
        golden.push((file.path.clone(), fetch(file).await?));
    }
    let old_model = match &old {
        Some(old) => Some(fetch(old.model_file()).await?),
        None => None,
    };
    printer.progress("running it");
    let difference = difference(old.as_ref(), &manifest);
    let (contract, tolerance) = (manifest.contract.clone(), manifest.golden_tolerance);
    let subject = Subject { contract, tolerance, model, reference, golden, before: old_model };
    let mut report = check::run(subject, environment.itself.as_ref()).await;
    over_budget(&manifest, &mut report);
    printer.progress("");
    Ok(Checked { model: target.model.clone(), before: before.map(|target| target.model), difference, report })
}

/// The manifest that a list names: exactly these bytes, whatever the server says.
async fn manifest(client: &Client, target: &Target) -> anyhow::Result<Manifest> {
    let model = &target.model;
    let detail = version(client, model).await?;
    let bytes = canonical::document(&detail.manifest_json).with_context(|| format!("manifest of {model}"))?;
    let manifest = Manifest::from_target(&bytes, model, &target.manifest);
    let manifest = manifest.with_context(|| format!("the manifest of {model} that the server shows"))?;
    ensure!(
        target.length == bytes.len() as u64,
        "the list names another length than the manifest of {model} has: it was not signed"
    );
    Ok(manifest)
}

/// The version that this one follows: its parent, else the next lower one, else the newest.
fn predecessor(manifest: &Manifest, review: &Review) -> Option<Target> {
    let mut of_model: Vec<_> = review.keeps.iter().filter(|kept| kept.model.name == manifest.model.name).collect();
    of_model.sort_unstable_by(|a, b| a.model.version.cmp(&b.model.version));
    let parent = of_model.iter().find(|kept| Some(&kept.model.version) == manifest.parent.as_ref());
    let lower = of_model.iter().rev().find(|kept| kept.model.version < manifest.model.version);
    parent.or(lower).or(of_model.last()).map(|kept| (*kept).clone())
}

/// What can be told of budgets without a device.
fn over_budget(manifest: &Manifest, report: &mut Report) {
    let total = manifest.total_bytes();
    for (class, budget) in &manifest.budgets {
        if let Some(most) = budget.disk_bytes.filter(|most| total > *most) {
            let words = format!("its files have {}, its own budget on {class} is {}", size(total.0), size(most.0));
            report.failed.push(words);
        }
    }
}

fn show(one: &Checked, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let against = one.before.as_ref().map_or("no version before it".into(), ToString::to_string);
    printer.step(&format!("{} against {against}", one.model))?;
    let same = one.before.is_some() && one.difference.is_empty();
    let same = same.then(|| "nothing but its number".to_owned());
    for line in one.difference.iter().chain(&same) {
        printer.step(&format!("  {line}"))?;
    }
    if !one.report.lacking.is_empty() {
        let lacking = one.report.lacking.join("; ");
        printer.note(&format!("warning: this kernel lacks a part of the sandbox that the model ran in: {lacking}"))?;
    }
    let lines = [("ok", &one.report.passed), ("FAILED", &one.report.failed), ("compared", &one.report.compared)];
    for (word, lines) in lines {
        lines.iter().try_for_each(|line| printer.step(&format!("  {word}: {line}")))?;
    }
    Ok(())
}

/// The reason to sign although checks failed, where they did.
fn allowed(failed: usize, order: &Approve, printer: &mut Printer<'_>) -> anyhow::Result<Option<String>> {
    match (failed, &order.override_reason) {
        (0, None) => Ok(None),
        (0, Some(_)) => {
            printer.note("note: no check failed, so --override is not recorded")?;
            Ok(None)
        }
        (_, None) => bail!(
            "{failed} checks failed, so nothing was signed: have a better version published, or sign all the same with \
             --override REASON, which is recorded"
        ),
        (_, Some(reason)) => {
            printer.note(&format!("warning: {failed} checks failed; signed all the same: {reason}"))?;
            Ok(Some(reason.clone()))
        }
    }
}

async fn post(
    client: &Client,
    signer: &mut Signer,
    pending: &Pending,
    override_reason: Option<String>,
) -> anyhow::Result<ProposalDetail> {
    let done = match pending.id {
        None => {
            // The record of why lies with the reason, for there is no other's signature to add it to.
            let why = override_reason.map_or(String::new(), |why| format!("; although checks failed: {why}"));
            return lists::propose(client, signer, &pending.list, &format!("{}{why}", pending.reason)).await;
        }
        Some(id) => {
            let signatures = signer.sign(&pending.list)?;
            let order = SignatureOrder { signatures, override_reason };
            client.post::<ProposalDetail>(&format!("/api/v1/proposals/{id}/signatures"), &order).await?
        }
    };
    if done.row.state == ProposalState::Published {
        signer.saw(Some(&pending.list))?;
    }
    Ok(done)
}
