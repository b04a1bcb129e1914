//! `tern token create`, `list` and `revoke`: a secret is shown once and never again.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde_json::json;
use tern_protocol::ids::TeamId;

use super::{
    args,
    client::{Client, with_query},
    output::Printer,
};
use crate::{
    disk::{self, Access},
    forms::{Page, ScopeForm, TokenIssued, TokenOrder, TokenRow},
    identity::{Role, Scope, TokenName},
    selector::Selector,
};

/// What there is to do with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token for a person or a program; it is shown once
    Create(Create),
    /// Who holds tokens, for what, until when; never the secrets
    List,
    /// End a token, at once
    Revoke {
        /// Its name
        name: TokenName,
        /// Why; kept with the record
        #[arg(long, value_name = "TEXT", value_parser = args::spoken)]
        reason: String,
    },
}

/// A token to make.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Who will hold it; a name is never given twice
    pub name: TokenName,
    /// viewer, publisher, approver, operator, auditor or admin
    #[arg(long)]
    pub role: Role,
    /// Only models of this team, once for each
    #[arg(long = "team", value_name = "TEAM")]
    pub teams: Vec<TeamId>,
    /// Only devices with these labels, such as site=hall-2
    #[arg(long, value_name = "SELECTOR")]
    pub devices: Option<Selector>,
    /// When it ends: a number and s, m, h or d [default: when it is revoked]
    #[arg(long, value_name = "AGE", value_parser = args::age)]
    pub expires: Option<Duration>,
    /// Write it to this new file, for the owner's eyes only, instead of printing it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs `tern token …`.
pub(super) async fn run(client: &Client, order: Token, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match order {
        Token::Create(order) => create(client, order, printer).await,
        Token::List => list(client, printer).await,
        Token::Revoke { name, reason } => {
            client.delete(&with_query(&format!("/api/v1/tokens/{name}"), &[("reason", &reason)])).await?;
            printer.result(&json!({ "revoked": name }), |p| p.line(&format!("token {name} counts no more")))
        }
    }
}

async fn create(client: &Client, order: Create, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let Create { name, role, teams, devices, expires, out } = order;
    if let Some(file) = &out {
        ensure!(!file.exists(), "{} is there already: name a new file with --out", file.display());
        // A folder that cannot be written must not leave a token that nobody has; an empty file says so early.
        disk::write(file, b"", Access::Private).with_context(|| format!("write {}", file.display()))?;
    }
    let teams = (!teams.is_empty()).then(|| teams.into_iter().collect());
    let scope = ScopeForm { teams, devices: devices.map(|devices| devices.to_string()) };
    let form =
        TokenOrder { name, role: role.as_str().into(), scope, valid_seconds: expires.map(|life| life.as_secs()) };
    let issued = client.post::<TokenIssued>("/api/v1/tokens", &form).await;
    let Some(file) = out else {
        let issued = issued?;
        return printer.result(&issued, |p| {
            p.line(&issued.secret)?;
            p.note(&format!("token {}; it is shown this once: hand it over and forget it", said(&issued.row, p)))
        });
    };
    let issued = issued.inspect_err(|_| {
        // So that trying again needs no cleaning up.
        let _ = disk::remove(&file);
    })?;
    disk::write(&file, format!("{}\n", issued.secret).as_bytes(), Access::Private)
        .with_context(|| format!("write {}: revoke token {}, nobody has it", file.display(), issued.row.name))?;
    printer.result(&issued.row, |p| p.line(&format!("token {} is in {}", said(&issued.row, p), file.display())))
}

fn said(row: &TokenRow, printer: &Printer<'_>) -> String {
    let until = row.expires.map_or_else(|| "until it is revoked".into(), |at| format!("ends {}", printer.when(at)));
    format!("{} ({}, {}, {until})", row.name, row.role, scope(row))
}

fn scope(row: &TokenRow) -> String {
    Scope::try_from(&row.scope).map_or_else(|_| "a scope that this tern cannot read".into(), |scope| scope.to_string())
}

async fn list(client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let page: Page<TokenRow> = client.get("/api/v1/tokens").await?;
    printer.result(&page, |p| {
        let row = |token: &TokenRow| {
            let when = |at: Option<jiff::Timestamp>| at.map_or_else(|| "-".into(), |at| p.when(at));
            let state = match (&token.revoked, token.expires) {
                (Some(_), _) => "revoked",
                (None, Some(expires)) if expires <= p.now() => "expired",
                _ => "counts",
            };
            let (name, role) = (token.name.to_string(), token.role.clone());
            vec![
                name,
                role,
                scope(token),
                state.into(),
                when(token.expires),
                when(token.last_used),
                p.when(token.created),
            ]
        };
        let rows = page.items.iter().map(row).collect();
        p.table(&["TOKEN", "ROLE", "FOR", "STATE", "ENDS", "LAST USED", "MADE"], rows, "no tokens")
    })
}
