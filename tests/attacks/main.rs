//! The attack suite: whoever holds the fleet server, the network, and fewer than the threshold of any offline role's keys
//! cannot make a device run a model that its team did not release; and during every attack the active version answers.
//!
//! One folder an attack. Each begins with what its attacker holds, what he tries, and what must happen.

#![expect(clippy::unwrap_used, reason = "a broken rig should fail loudly")]

#[path = "arbitrary_install/attack.rs"]
mod arbitrary_install;
#[path = "candidate/attack.rs"]
mod candidate;
#[path = "candidate_opt_in/attack.rs"]
mod candidate_opt_in;
#[path = "client_takeover/attack.rs"]
mod client_takeover;
#[path = "endless_data/attack.rs"]
mod endless_data;
#[path = "enrolment_token/attack.rs"]
mod enrolment_token;
#[path = "equivocation/attack.rs"]
mod equivocation;
#[path = "fast_forward/attack.rs"]
mod fast_forward;
#[path = "flash_wear/attack.rs"]
mod flash_wear;
#[path = "foreign_topic/attack.rs"]
mod foreign_topic;
#[path = "freeze/attack.rs"]
mod freeze;
#[path = "key_compromise/attack.rs"]
mod key_compromise;
#[path = "lost_records/attack.rs"]
mod lost_records;
#[path = "malicious_mirror/attack.rs"]
mod malicious_mirror;
#[path = "mirrors/attack.rs"]
mod mirrors;
#[path = "mix_and_match/attack.rs"]
mod mix_and_match;
#[path = "recalled/attack.rs"]
mod recalled;
#[path = "replay/attack.rs"]
mod replay;
#[path = "request_floods/attack.rs"]
mod request_floods;
#[path = "revoked_certificate/attack.rs"]
mod revoked_certificate;
mod rig;
#[path = "rollback/attack.rs"]
mod rollback;
#[path = "slow_retrieval/attack.rs"]
mod slow_retrieval;
#[path = "stolen_server/attack.rs"]
mod stolen_server;
#[path = "stolen_token/attack.rs"]
mod stolen_token;
#[path = "stranger/attack.rs"]
mod stranger;
#[path = "wrong_software/attack.rs"]
mod wrong_software;
#[path = "zip_bombs/attack.rs"]
mod zip_bombs;

/// Every attack, by its folder.
const ATTACKS: [&str; 27] = [
    "arbitrary_install",
    "candidate",
    "candidate_opt_in",
    "client_takeover",
    "endless_data",
    "enrolment_token",
    "equivocation",
    "fast_forward",
    "flash_wear",
    "foreign_topic",
    "freeze",
    "key_compromise",
    "lost_records",
    "malicious_mirror",
    "mirrors",
    "mix_and_match",
    "recalled",
    "replay",
    "request_floods",
    "revoked_certificate",
    "rollback",
    "slow_retrieval",
    "stolen_server",
    "stolen_token",
    "stranger",
    "wrong_software",
    "zip_bombs",
];
