//! The verifier against chains of our own making.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

const LATER: &str = "2026-06-01T00:00:00Z";

struct Chain {
    leaf: CertificateDer<'static>,
    ca: CertificateDer<'static>,
}

fn chain(not_before: i32, not_after: i32) -> Chain {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(not_before, 1, 1);
    params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap();
    Chain { leaf: leaf.der().clone(), ca: ca.der().clone() }
}

fn verify(chain: &Chain, authority: Authority, name: &'static str, now: &str) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let now: jiff::Timestamp = now.parse().unwrap();
    Verifier { authority, provider }
        .verify_server_cert(
            &chain.leaf,
            std::slice::from_ref(&chain.ca),
            &name.try_into().unwrap(),
            &[],
            unix_time(now.as_second()),
        )
        .map(|_| ())
}

#[test]
fn only_the_pinned_ca_counts() {
    let (ours, theirs) = (chain(2020, 2040), chain(2020, 2040));
    let pin = |c: &Chain| Authority::Pin(Digest::of(&c.ca), Arc::new(OnceLock::new()));
    assert_eq!(verify(&ours, pin(&ours), "localhost", LATER), Ok(()));
    assert_eq!(verify(&ours, Authority::Certificates(vec![ours.ca.clone()]), "localhost", LATER), Ok(()));
    assert!(verify(&ours, Authority::Certificates(vec![theirs.ca.clone()]), "localhost", LATER).is_err());
    let found = Arc::new(OnceLock::new());
    let other = Authority::Pin(Digest::of(&ours.ca), found.clone());
    assert!(verify(&theirs, other, "localhost", LATER).is_err());
    assert_eq!(found.get(), Some(&Digest::of(&theirs.ca)));
    // The right CA beside a leaf that it did not sign.
    let forged = Chain { leaf: theirs.leaf.clone(), ca: ours.ca.clone() };
    assert!(verify(&forged, pin(&ours), "localhost", LATER).is_err());
    assert!(verify(&ours, pin(&ours), "example.org", LATER).is_err());
}

#[test]
fn not_yet_valid_is_accepted_and_expired_is_not() {
    let future = chain(2030, 2040);
    assert_eq!(verify(&future, Authority::Certificates(vec![future.ca.clone()]), "localhost", LATER), Ok(()));
    let past = chain(2020, 2025);
    let outcome = verify(&past, Authority::Certificates(vec![past.ca.clone()]), "localhost", LATER);
    let expired = matches!(
        outcome,
        Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }))
    );
    assert!(expired, "{outcome:?}");
}
