//! `tern dashboard add`, `list` and `remove`: the dashboard's key is made here and stays here.

use std::path::Path;

use anyhow::{Context, ensure};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;

use super::{
    client::{Client, with_query},
    output::Printer,
};
use crate::{
    disk::{self, Access},
    forms::{Page, ReaderIssued, ReaderOrder, ReaderRow},
    readers::ReaderName,
};

/// The files of a dashboard's folder.
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const AUTHORITY: &str = "ca.pem";

pub(super) async fn add(
    client: &Client,
    name: ReaderName,
    out: &Path,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    let key_file = out.join(KEY);
    ensure!(!key_file.exists(), "{} is there already: name an empty folder with --out", key_file.display());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make a key")?;
    let request = CertificateParams::default().serialize_request(&key).context("make a certificate request")?;
    let csr_pem = request.pem().context("make a certificate request")?;
    // The key first: a folder that cannot be written must not leave a certificate that nobody has the key of.
    disk::create_folder(out).with_context(|| format!("folder {}", out.display()))?;
    write(&key_file, &key.serialize_pem(), Access::Private)?;
    let issued = match client.post::<ReaderIssued>("/api/v1/readers", &ReaderOrder { name, csr_pem }).await {
        Ok(issued) => issued,
        Err(error) => {
            // So that trying again needs no cleaning up.
            let _ = disk::remove(&key_file);
            return Err(error);
        }
    };
    write(&out.join(CERTIFICATE), &issued.certificate_pem, Access::Public)?;
    write(&out.join(AUTHORITY), &issued.ca_pem, Access::Public)?;
    printer.result(&issued, |p| {
        p.line(&format!("dashboard {} may read until {}", issued.name, issued.expires))?;
        p.note("its key and certificate are in the folder; try them with:")?;
        p.line(&trial(&issued, out))
    })
}

fn write(path: &Path, text: &str, access: Access) -> anyhow::Result<()> {
    disk::write(path, text.as_bytes(), access).with_context(|| format!("write {}", path.display()))
}

/// The line that shows what the fleet says.
fn trial(issued: &ReaderIssued, out: &Path) -> String {
    let (host, port) = issued.mqtt_address.rsplit_once(':').unwrap_or((&issued.mqtt_address, "8883"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let file = |name: &str| out.join(name).display().to_string();
    format!(
        "mosquitto_sub -h {host} -p {port} --cafile {} --cert {} --key {} -i {} -q 1 -v -t 'tern/v1/{}/+/status'",
        file(AUTHORITY),
        file(CERTIFICATE),
        file(KEY),
        issued.client_id,
        issued.fleet
    )
}

pub(super) async fn list(client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let page: Page<ReaderRow> = client.get("/api/v1/readers").await?;
    printer.result(&page, |p| {
        let row = |reader: &ReaderRow| {
            let (added, ends) = (p.when(reader.created), p.when(reader.certificate_expires));
            vec![reader.name.to_string(), added, reader.created_by.clone(), ends]
        };
        let rows = page.items.iter().map(row).collect();
        p.table(
            &["DASHBOARD", "ADDED", "BY", "CERTIFICATE ENDS"],
            rows,
            "no dashboards: add one with `tern dashboard add`",
        )
    })
}

pub(super) async fn remove(
    client: &Client,
    name: &ReaderName,
    reason: &str,
    printer: &mut Printer<'_>,
) -> anyhow::Result<()> {
    client.delete(&with_query(&format!("/api/v1/readers/{name}"), &[("reason", reason)])).await?;
    printer.result(&json!({ "removed": name }), |p| p.line(&format!("dashboard {name} reads no more")))
}
