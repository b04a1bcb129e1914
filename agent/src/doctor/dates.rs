//! The dates of the device's certificate.

use jiff::{SignedDuration, Timestamp};

use super::{Finding, Patient};

const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(super) fn check(patient: &Patient) -> Option<Finding> {
    let identity = patient.identity.as_ref().ok()?.as_ref()?;
    let (chain, _) = identity.tls();
    let der = chain.first()?;
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(der) else {
        return Some(Finding::error("certificate", "it cannot be parsed", "enrol the device again"));
    };
    let end = Timestamp::from_second(parsed.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
    Some(judge(end, super::clock::now(patient)))
}

fn judge(end: Timestamp, now: Timestamp) -> Finding {
    if end <= now {
        let remedy =
            "the running agent renews it once it reaches the server; where that refuses, enrol the device again";
        return Finding::warn("certificate", format!("expired at {end}"), remedy);
    }
    if end.duration_since(now) < SOON {
        let remedy = "the running agent renews it; its log says why it has not";
        return Finding::warn("certificate", format!("expires at {end}"), remedy);
    }
    Finding::ok("certificate", format!("valid until {end}"))
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn it_warns_thirty_days_before() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        for (end, verdict) in [
            ("2026-06-01T00:00:00Z", Verdict::Warn),
            ("2026-06-30T00:00:00Z", Verdict::Warn),
            ("2026-07-01T00:00:00Z", Verdict::Ok),
        ] {
            assert_eq!(judge(end.parse().unwrap(), now).verdict, verdict, "{end}");
        }
    }
}
