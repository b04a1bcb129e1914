//! `tern login`: nothing is written before the server has taken the token.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{
    args::Login,
    client::Client,
    config::{self, Environment, Settings},
    output::Printer,
};
use crate::{disk, forms::WhoAmI, identity::Scope};

const MAX_TOKEN_BYTES: u64 = 4 << 10;

pub(super) async fn run(
    order: Login,
    environment: &Environment,
    place: Option<PathBuf>,
    input: &mut dyn Read,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let place = place.context("there is no home folder to keep the configuration in: name a file with --config")?;
    let server = order.server.or_else(|| environment.server.clone()).context("name the server with --server URL")?;
    let ca = order.ca.or_else(|| environment.ca.clone()).context("name the server's CA certificate with --ca FILE")?;
    let token = match (&order.token_file, &environment.token) {
        (Some(file), _) => token_of_file(file)?,
        (None, Some(token)) => token.clone(),
        (None, None) => token_of_input(input, printer)?,
    };
    let settings = Settings { server, token, ca_pem: config::read_ca(&ca)?, folder: None };
    let client = Client::new(&settings)?;
    let me: WhoAmI = client.get("/api/v1/whoami").await?;
    Settings { server: client.server().to_owned(), ..settings }.save(&place)?;
    printer.result(&me, |p| {
        p.line(&format!("logged in to fleet {} at {} as {}", me.fleet, client.server(), who(&me)))?;
        p.line(&format!("remembered in {}", place.display()))?;
        if me.solo { p.note(SOLO) } else { Ok(()) }
    })
}

/// Name and role, and the scope where it is not the whole fleet.
pub(super) fn who(me: &WhoAmI) -> String {
    match Scope::try_from(&me.scope) {
        Ok(scope) if scope.is_whole() => format!("{} ({})", me.name, me.role),
        Ok(scope) => format!("{} ({}, for {scope})", me.name, me.role),
        Err(_) => format!("{} ({}, for what this tern cannot read)", me.name, me.role),
    }
}

/// `tern whoami`.
pub(super) async fn whoami(client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let me: WhoAmI = client.get("/api/v1/whoami").await?;
    printer.result(&me, |p| p.line(&format!("{} on fleet {}", who(&me), me.fleet)))
}

const SOLO: &str =
    "warning: the keys of root or targets lie on this server, as `init --solo` made them, which is unsafe";

fn token_of_file(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let bytes = disk::read(path, MAX_TOKEN_BYTES)
        .with_context(|| format!("token file {shown}"))?
        .with_context(|| format!("token file {shown} does not exist"))?;
    token(&bytes).with_context(|| format!("token file {shown} holds no token"))
}

fn token_of_input(input: &mut dyn Read, printer: &mut Printer<'_>) -> anyhow::Result<String> {
    if printer.is_watched() {
        printer.note("paste the token and end with Ctrl-D (or name its file with --token-file):")?;
    }
    let mut bytes = Vec::new();
    input.take(MAX_TOKEN_BYTES).read_to_end(&mut bytes).context("token on standard input")?;
    token(&bytes).context("standard input holds no token: pipe it in, or name its file with --token-file")
}

fn token(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let is_word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    is_word.then(|| text.to_owned())
}
